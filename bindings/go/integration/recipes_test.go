package integration

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// ---- the programs of docs/observability.md

func logged() (*spikeauth.Client, error) {
	logger := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, err := spikeauth.NewFromEnv(spikeauth.WithLogger(logger))
	return client, err
}

type collector struct{ client *spikeauth.Client }

func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	stats, _ := c.client.Stats()
	for _, counter := range stats.LogValue().Group() {
		kind, name := prometheus.CounterValue, "spike_auth_"+counter.Key+"_total"
		if slices.Contains([]string{"entries", "bytes", "pending"}, counter.Key) {
			kind, name = prometheus.GaugeValue, "spike_auth_"+counter.Key
		}
		desc := prometheus.NewDesc(name, counter.Key+" of the client's cache", nil, nil)
		metrics <- prometheus.MustNewConstMetric(desc, kind, float64(counter.Value.Uint64()))
	}
}

func observe(meter metric.Meter, client *spikeauth.Client) error {
	exchanges, _ := meter.Int64ObservableCounter("spike_auth.exchanges")
	failures, _ := meter.Int64ObservableCounter("spike_auth.failures")
	_, err := meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		stats, err := client.Stats()
		observer.ObserveInt64(exchanges, int64(stats.Exchanges))
		observer.ObserveInt64(failures, int64(stats.Failures))
		return err
	}, exchanges, failures)
	return err
}

func token(ctx context.Context, client *spikeauth.Client, userID string) (string, error) {
	ctx, span := otel.Tracer("spike_auth").Start(ctx, "spike_auth.token")
	defer span.End()
	token, err := client.Token(ctx, userID)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, "no token")
	}
	return token, err
}

// ---- what they do

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheProgramsArePrintedAsTheyAreHere(t *testing.T) {
	unindented := func(text string) string { return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(text, "") }
	here := unindented(read(t, "recipes_test.go"))
	printed := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "../../../docs/observability.md"), -1)
	if len(printed) != 3 {
		t.Errorf("%d programs", len(printed))
	}
	for _, block := range printed {
		if !strings.Contains(here, unindented(block[1])) {
			t.Error("it is not here:\n" + block[1])
		}
	}
}

func TestTheLogIsAsPrinted(t *testing.T) {
	stderr := os.Stderr
	defer func() { os.Stderr = stderr }()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	os.Stderr = writer
	client, err := logged()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Token(t.Context(), "logged"); err != nil {
		t.Error(err)
	}
	writer.Close()
	var line bytes.Buffer
	if _, err := line.ReadFrom(reader); err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(read(t, "../../../docs/observability.md"))
	varying := regexp.MustCompile(`"time":"[^"]*"|"ms":\d+`)
	if got, want := varying.ReplaceAllString(line.String(), ""), varying.ReplaceAllString(block[1], ""); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func newClient(t *testing.T) *spikeauth.Client {
	t.Helper()
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestPrometheusScrapesTheCounters(t *testing.T) {
	client, registry := newClient(t), prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{client}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := client.Token(t.Context(), "scraped"); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		found[family.GetName()] = family.GetMetric()[0].GetCounter().GetValue() + family.GetMetric()[0].GetGauge().GetValue()
	}
	stats, err := client.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"spike_auth_hits_total": 1, "spike_auth_misses_total": 1, "spike_auth_exchanges_total": 1, "spike_auth_entries": 1,
		"spike_auth_bytes": float64(stats.Bytes),
	} {
		if found[name] != want {
			t.Errorf("%s is %v, not %v", name, found[name], want)
		}
	}
	if len(found) != len(stats.LogValue().Group()) {
		t.Errorf("%v", slices.Sorted(maps.Keys(found)))
	}
}

func TestOpenTelemetryHasCountersAndSpans(t *testing.T) {
	client, reader, spans := newClient(t), sdkmetric.NewManualReader(), tracetest.NewInMemoryExporter()
	if err := observe(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"), client); err != nil {
		t.Fatal(err)
	}
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	if _, err := token(t.Context(), client, "traced"); err != nil {
		t.Error(err)
	}
	if _, err := token(t.Context(), client, "fault.status.403.traced"); !errors.Is(err, spikeauth.StatusForbidden) {
		t.Error(err)
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, counter := range data.ScopeMetrics[0].Metrics {
		found[counter.Name] = counter.Data.(metricdata.Sum[int64]).DataPoints[0].Value
	}
	if want := map[string]int64{"spike_auth.exchanges": 2, "spike_auth.failures": 1}; !maps.Equal(found, want) {
		t.Errorf("%v, not %v", found, want)
	}
	ended := spans.GetSpans()
	if len(ended) != 2 || ended[0].Status.Code != codes.Unset || ended[1].Status.Code != codes.Error {
		t.Fatalf("%v", ended)
	}
	for _, attribute := range ended[1].Events[0].Attributes {
		if strings.Contains(attribute.Value.Emit(), "traced") {
			t.Errorf("%v", attribute)
		}
	}
}
