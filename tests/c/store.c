/* Tokens in a store that processes share: two clients, started calls, and children of fork(2).
 *
 * usage: store store=URL [quick=1] NAME=ADDRESS...
 */
#define _GNU_SOURCE
#include "children.h"
#include "queue.h"

enum { CHILDREN = 60, SHARED_USERS = 6, LEASE_MS = 5000 };

static spike_auth_config *store_config(void)
{
    spike_auth_config *config = sandbox_config("http");
    spike_auth_error err;
    CHECK_STATUS(spike_auth_config_set_store(config, address("store"), NUL_TERMINATED, &err), 0);
    return config;
}

static spike_auth_client *store_client(void)
{
    return client_of(store_config());
}

static void two_clients_share_an_exchange(void)
{
    spike_auth_client *one = store_client(), *other = store_client();
    spike_auth_error err;
    struct result first = get_own(one, "shared"), second = get_own(other, "shared");
    CHECK_STR(first.token, second.token);
    CHECK_EQ_INT(requests_for("shared"), 1);
    CHECK_EQ_INT(first.err.attempts, 1);
    CHECK_EQ_INT(second.err.attempts, 0);
    CHECK_EQ_INT(stats_of(one).store_misses, 1);
    CHECK_EQ_INT(stats_of(other).store_hits, 1);
    CHECK_EQ_INT(stats_of(other).exchanges, 0);
    CHECK_STATUS(spike_auth_client_check_store(one, NULL, &err), 0);
    check_error_is_whole(&err, 0, __FILE__, __LINE__);
    CHECK_STATUS(spike_auth_client_forget_shared(one, "shared", NUL_TERMINATED, NULL, &err), 0);
    CHECK(strcmp(get_own(one, "shared").token, first.token) != 0);
    spike_auth_client_free(one);
    spike_auth_client_free(other);
}

static void a_handle_stops_a_check(void)
{
    spike_auth_client *client = store_client();
    spike_auth_call *call = new_call();
    spike_auth_call_cancel(call);
    CHECK_STATUS(spike_auth_client_check_store(client, call, NULL), SPIKE_AUTH_STATUS_CANCELLED);
    CHECK_STATUS(spike_auth_client_forget_shared(client, "a", 1, call, NULL), SPIKE_AUTH_STATUS_CANCELLED);
    spike_auth_client_close(client);
    CHECK_STATUS(spike_auth_client_check_store(client, NULL, NULL), SPIKE_AUTH_STATUS_CLOSED);
    CHECK_STATUS(spike_auth_client_forget_shared(client, "a", 1, NULL, NULL), SPIKE_AUTH_STATUS_CLOSED);
    spike_auth_call_free(call);
    spike_auth_client_free(client);
}

/* ---- started calls -------------------------------------------------------------------------------------- */

static spike_auth_client *client_with_one_worker(void)
{
    spike_auth_config *config = store_config();
    CHECK_STATUS(spike_auth_config_set_max_concurrency(config, 1, NULL), 0);
    return client_of(config);
}

/* Two clients: one makes the exchange of `user`, the other has a started call that waits for it. */
struct waiting {
    spike_auth_client *leader, *client;
    struct running leading;
    spike_auth_queue *queue;
    spike_auth_call *call;
};

static void begin_waiting(struct waiting *w, const char *user)
{
    w->leader = store_client();
    w->client = client_with_one_worker();
    w->queue = new_queue();
    w->call = new_call();
    start(&w->leading, spike_auth_client_get_token, w->leader, user);
    wait_until_in_flight(1);
    start_token(w->client, user, w->call, w->queue, 1);
    while (stats_of(w->client).store_waits == 0)
        sleep_ms(1);
}

static void free_waiting(struct waiting *w)
{
    spike_auth_call_free(w->call);
    spike_auth_queue_free(w->queue);
    spike_auth_client_free(w->client);
    spike_auth_client_free(w->leader);
}

static void a_started_call_that_waits_for_another_process_holds_no_worker(void)
{
    static const char SLOW[] = "fault.delay.1500";
    struct waiting w;
    spike_auth_call *quick = new_call();
    double start = now_ms();
    begin_waiting(&w, SLOW);
    start_token(w.client, "quick", quick, w.queue, 2);
    take_one(w.queue, 2);
    CHECK(now_ms() - start < 1200);
    CHECK_STATUS(status_of(quick), SPIKE_AUTH_STATUS_OK);
    CHECK_STATUS(status_of(w.call), SPIKE_AUTH_STATUS_PENDING);
    take_one(w.queue, 1);
    finish_with(&w.leading, SPIKE_AUTH_STATUS_OK);
    CHECK_STR(result_of(w.call).token, w.leading.result.token);
    CHECK_EQ_INT(requests_for(SLOW), 1);
    CHECK_EQ_INT(stats_of(w.client).store_hits, 1);
    CHECK_EQ_INT(stats_of(w.client).exchanges, 1); /* of the quick one */
    spike_auth_call_free(quick);
    free_waiting(&w);
}

static void a_started_call_that_waits_is_cancelled_and_closed_at_once(void)
{
    static const char *const USERS[] = {"fault.delay.1001", "fault.delay.1002"};
    for (int closes = 0; closes < 2; closes++) {
        struct waiting w;
        double start;
        begin_waiting(&w, USERS[closes]);
        start = now_ms();
        if (closes)
            spike_auth_client_close(w.client);
        else
            spike_auth_call_cancel(w.call);
        take_one(w.queue, 1);
        CHECK(now_ms() - start < 200);
        CHECK_STATUS(status_of(w.call), closes ? SPIKE_AUTH_STATUS_CLOSED : SPIKE_AUTH_STATUS_CANCELLED);
        finish_with(&w.leading, SPIKE_AUTH_STATUS_OK);
        free_waiting(&w);
    }
}

static void a_started_leader_that_is_cancelled_leaves_no_lease_behind(void)
{
    spike_auth_client *one = client_with_one_worker(), *other = store_client();
    spike_auth_queue *queue = new_queue();
    spike_auth_call *call = new_call();
    double start;
    set_fault("left", "delay:800*1");
    start_token(one, "left", call, queue, 1);
    wait_until_in_flight(1);
    spike_auth_call_cancel(call);
    take_one(queue, 1);
    CHECK_STATUS(status_of(call), SPIKE_AUTH_STATUS_CANCELLED);
    start = now_ms();
    (void)get_own(other, "left");
    CHECK(now_ms() - start < LEASE_MS / 2);
    spike_auth_call_free(call);
    spike_auth_queue_free(queue);
    spike_auth_client_free(one);
    spike_auth_client_free(other);
}

/* ---- fork ----------------------------------------------------------------------------------------------- */

static void get_new_tokens(void *argument)
{
    const struct job *job = argument;
    for (int i = 0; i < SHARED_USERS; i++) {
        char user[64];
        struct result result;
        snprintf(user, sizeof user, "forked-%d", (i + job->number) % SHARED_USERS);
        result = get(job->client, user);
        check_own_in_child(&result, user);
    }
    CHECK_EQ_INT(stats_of(job->client).store_errors, 0);
    CHECK_EQ_INT(stats_of(job->client).store_hits + stats_of(job->client).exchanges, SHARED_USERS);
}

static void step_through_users(struct load *load, long i)
{
    char user[64];
    struct result result;
    snprintf(user, sizeof user, "%s-%d-%ld", load->prefix, load->number, i);
    result = get(load->client, user);
    check_own(&result, user);
}

static void children_share_with_each_other_and_disturb_no_connection(void)
{
    struct load load[LOAD_THREADS];
    spike_auth_client *client = store_client();
    start_load(load, client, step_through_users, "parent");
    fork_in_groups(get_new_tokens, client, CHILDREN);
    stop_load(load);
    for (int i = 0; i < SHARED_USERS; i++) {
        char user[64];
        snprintf(user, sizeof user, "forked-%d", i);
        CHECK_EQ_INT(requests_for(user), 1);
    }
    CHECK_EQ_INT(stats_of(client).store_errors, 0);
    spike_auth_client_free(client);
}

static void hold_a_lease_and_exit(void *argument)
{
    static struct running running;
    start(&running, spike_auth_client_get_token, argument, "fault.delay.3000");
    wait_until_in_flight(1);
    _exit(CHILD_GOOD); /* as if it was killed */
}

static void a_leader_that_dies_costs_one_lease(void)
{
    spike_auth_client *client = store_client();
    double start = now_ms();
    check_child(hold_a_lease_and_exit, client);
    set_fault("fault.delay.3000", "delay:1");
    (void)get_own(client, "fault.delay.3000");
    CHECK(now_ms() - start < LEASE_MS + 2500);
    CHECK_EQ_INT(stats_of(client).store_waits, 1);
    CHECK_EQ_INT(requests_for("fault.delay.3000"), 2);
    spike_auth_client_free(client);
}

int main(int argc, char **argv)
{
    (void)argc;
    sandbox_arguments = argv + 1;
    begin_children();
    RUN(two_clients_share_an_exchange);
    RUN(a_handle_stops_a_check);
    RUN(a_started_call_that_waits_for_another_process_holds_no_worker);
    RUN(a_started_call_that_waits_is_cancelled_and_closed_at_once);
    RUN(a_started_leader_that_is_cancelled_leaves_no_lease_behind);
    if (!argument("quick")) /* a lock of a sanitizer's allocator may be held at a fork under load */
        RUN(children_share_with_each_other_and_disturb_no_connection);
    RUN(a_leader_that_dies_costs_one_lease);
    return check_summary();
}
