"""spike_auth.arrow"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import polars
import pyarrow as pa
import pytest

from helpers import client_of, environment, in_flight, script, user_of, wait_until
from spike_auth import Client, ClientClosed, InvalidInput, Status, arrow
from support.project import counters

IDS = ["alice", None, "a b", "bob", "", "é", "alice"]
GOOD = {"alice", "bob"}
OFFSET = pa.array(["left out", *IDS, "left out too"])

COLUMNS = {
    "string": pa.array(IDS),
    "large_string": pa.array(IDS, pa.large_string()),
    "string_view": pa.array(IDS, pa.string_view()),
    "dictionary": pa.array(IDS).dictionary_encode(),
    "dictionary of large_string": pa.array(IDS, pa.large_string()).dictionary_encode(),
    "dictionary of string_view": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 2, 3, 4, 0], pa.int8()), pa.array(["alice", "a b", "bob", "", "é"], pa.string_view())
    ),
    "slice": OFFSET[1:-1],
    "slice of large_string": OFFSET.cast(pa.large_string())[1:-1],
    "slice of string_view": OFFSET.cast(pa.string_view())[1:-1],
    "slice of a dictionary": OFFSET.dictionary_encode()[1:-1],
    "slice of chunks": pa.chunked_array([["left out", *IDS[:2]], [], [*IDS[2:], "left out too"]])[1:-1],
    "record batch": pa.record_batch([pa.array(IDS)], ["user"]),
    "slice of a table": pa.table({"user": OFFSET})[1:-1],
    "Polars' series": polars.Series(IDS),
    "Polars' frame": polars.DataFrame({"user": IDS}),
    "Polars' categories": polars.Series(IDS, dtype=polars.Categorical),
    "DuckDB's relation": duckdb.from_arrow(pa.table({"user": IDS})),
}


@pytest.fixture(params=COLUMNS)
def column(request):
    return COLUMNS[request.param]


def test_sign(client, column):
    signatures = arrow.sign(client, column)
    signatures.validate(full=True)
    assert signatures.type == pa.string()
    assert signatures.to_pylist() == [client.sign(user) if user in GOOD else None for user in IDS]
    assert signatures.null_count == len(IDS) - 3


def test_provision(client, column):
    statuses = arrow.provision(client, column)
    statuses.validate(full=True)
    assert statuses.type == pa.int32()
    expected = {None: None, **dict.fromkeys(GOOD, Status.OK)}
    assert statuses.to_pylist() == [expected.get(user, Status.INVALID_USER_ID) for user in IDS]


def test_tokens(client, column):
    batch = arrow.tokens(client, column)
    batch.validate(full=True)
    assert batch.schema == pa.schema({"id": pa.string(), "token": pa.string(), "status": pa.int32()})
    assert batch["id"].to_pylist() == IDS
    assert [token and user_of(token) for token in batch["token"].to_pylist()] == [
        user if user in GOOD else None for user in IDS
    ]
    assert batch["status"] == pa.chunked_array([arrow.provision(client, pa.array(IDS))]).chunk(0)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.null()])
def test_columns_without_ids(client, kind):
    for column in (pa.array([], kind), pa.nulls(3, kind), pa.nulls(5, kind)[2:4]):
        nothing = [None] * len(column)
        assert arrow.sign(client, column).to_pylist() == nothing
        assert arrow.provision(client, column).to_pylist() == nothing
        assert arrow.tokens(client, column)["token"].to_pylist() == nothing
    assert arrow.sign(client, pa.chunked_array([], kind)).to_pylist() == []
    assert arrow.provision(client, pa.chunked_array([], kind)).to_pylist() == []
    assert arrow.tokens(client, pa.chunked_array([], kind)).num_rows == 0


def test_chunks_stay_chunks(client):
    column = pa.chunked_array([["alice", None], [], ["bob"]])
    for result in (arrow.sign(client, column), arrow.provision(client, column)):
        assert isinstance(result, pa.ChunkedArray)
        assert sum(map(len, result.chunks)) == 3
    for result in (arrow.sign(client, column.chunk(0)), arrow.provision(client, column.chunk(0))):
        assert isinstance(result, pa.Array)


def test_an_array_beyond_32_bits_is_refused_or_cut(client, monkeypatch):
    monkeypatch.setattr(arrow, "_MOST_ROWS", 2)
    column = pa.array(["a", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match="5 rows, an array of signatures at most 2: pass a chunked array"):
        arrow.sign(client, column)
    signatures = arrow.sign(client, pa.chunked_array([column]))
    assert signatures.num_chunks == 3
    assert signatures.to_pylist() == client.sign_many([*"abcde"])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["alice"], "must be an Arrow column, .* not list"),
        ("alice", "must be an Arrow column, .* not str"),
        (None, "must be an Arrow column, .* not NoneType"),
        (pa.array([1, 2]), "must be of a string type of Arrow, not int64"),
        (pa.array([b"alice"]), "must be of a string type of Arrow, not binary"),
        (pa.array([1, 2]).dictionary_encode(), "must be of a string type of Arrow, not int64"),
        (pa.chunked_array([], pa.int8()), "must be of a string type of Arrow, not int8"),
        (polars.Series([1.5]), "must be of a string type of Arrow, not double"),
        (polars.DataFrame({"user": ["alice"], "age": [30]}), "one column of strings, not a table with 2 columns"),
    ],
)
def test_other_types(client, column, words):
    for function in (arrow.sign, arrow.provision, arrow.tokens):
        with pytest.raises(TypeError, match=words):
            function(client, column)


def test_other_arguments(client):
    column = pa.array(["alice"])
    for function in (arrow.sign, arrow.provision, arrow.tokens):
        with pytest.raises(TypeError, match="client must be a spike_auth.Client, not str"):
            function("client", column)
    for function in (arrow.provision, arrow.tokens):
        for wrong in (0, -1):
            with pytest.raises(InvalidInput, match="concurrency is not a number above 0"):
                function(client, column, concurrency=wrong)
        for wrong in (1.5, True, "32"):
            with pytest.raises(TypeError, match="concurrency must be an int"):
                function(client, column, concurrency=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            function(client, column, timeout=0)


def test_a_failure_of_the_client_is_raised(sandbox):
    column = pa.array(["alice", "bob"])
    with Client(9999, base_url=sandbox["http"]) as without_key:
        for function in (arrow.sign, arrow.provision, arrow.tokens):
            with pytest.raises(InvalidInput) as caught:
                function(without_key, column)
            assert caught.value.status is Status.KEY_REQUIRED
    for function in (arrow.sign, arrow.provision, arrow.tokens):
        with pytest.raises(ClientClosed):
            function(without_key, column)


def test_no_copy_is_made_of_large_strings(client):
    rows = 100_000
    column = pa.array([f"user.{number}" for number in range(rows)], pa.large_string())
    gc.collect()
    before = pa.total_allocated_bytes()
    signatures = arrow.sign(client, column)
    # Signatures, statuses and offsets were allocated, and nothing of the ids' size remains.
    assert pa.total_allocated_bytes() - before < rows * 68 + 10_000
    assert signatures[-1].as_py() == client.sign(f"user.{rows - 1}")


@pytest.mark.parametrize("rows", [65535, 65536, 65537])
def test_the_length_of_kept_offsets(client, rows):
    signatures = arrow.sign(client, pa.array(["a"] * (rows - 1) + ["b"]))
    signatures.validate(full=True)
    assert signatures[-1].as_py() == client.sign("b")


def test_one_client_per_process(sandbox):
    printed = script(
        "import os, threading, pyarrow as pa\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from spike_auth import arrow\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    made = {*pool.map(lambda _: arrow.client(), range(64))}\n"
        "assert made == {arrow.client()}\n"
        "print(arrow.provision(arrow.client(), pa.array(['alice'])).to_pylist())\n",
        environment(sandbox),
    )
    assert printed == "[0]\n"


def test_the_client_of_a_forked_child(own_sandbox):
    printed = script(
        "import os, pyarrow as pa\n"
        "from spike_auth import arrow\n"
        "assert arrow.provision(arrow.client(), pa.array(['alice', 'bob'])).to_pylist() == [0, 0]\n"
        "if not os.fork():\n"
        "    print(arrow.provision(arrow.client(), pa.array(['alice', 'bob', 'carol'])).to_pylist(), flush=True)\n"
        "    os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == 0\n",
        environment(own_sandbox),
    )
    assert printed == "[0, 0, 0]\n"
    assert counters(own_sandbox)["users"] == {"alice": 1, "bob": 1, "carol": 1}


def test_threads_at_once(sandbox):
    columns = [pa.array([f"{part}.{number}" for number in range(200)]) for part in range(8)]
    with client_of(sandbox) as client, ThreadPoolExecutor(8) as pool:
        for column, batch in zip(columns, pool.map(lambda each: arrow.tokens(client, each), columns), strict=True):
            assert [*map(user_of, batch["token"].to_pylist())] == column.to_pylist()


def test_closing_the_client_ends_it(own_sandbox):
    client, caught = client_of(own_sandbox), []

    def run():
        with pytest.raises(ClientClosed) as error:
            arrow.provision(client, pa.array([f"fault.stall.{number}" for number in range(100)]))
        caught.append(error.value)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: in_flight(own_sandbox) > 0)
    client.close()
    thread.join(20)
    assert len(caught) == 1
