"""docs/columns.md in one process: the command, pyarrow, DuckDB and Polars."""

from __future__ import annotations

import hashlib
import hmac
import unittest

from columns.page import Job, command, interpreter, recipe, signing
from python import environment
from support.project import KEY, counters, sandbox, scratch
from support.store import installed, store

USERS = [f"user-{number}" for number in range(3000)]
LIBRARIES = ["pyarrow", "duckdb", "polars"]


class Recipes(unittest.TestCase):
    def setUp(self) -> None:
        chosen = interpreter()
        self.python = environment(chosen.series, chosen.path)
        self.addresses = self.enterContext(sandbox("--delay-ms", "2"))

    def job(self, users: list[str | None], store_url: str = "") -> Job:
        job = Job(self.python, self.enterContext(scratch()), self.addresses, store_url)
        job.write({"users.parquet": users})
        return job

    def test_each_provisions_the_users_of_a_file(self):
        for number, library in enumerate(LIBRARIES):
            with self.subTest(library):
                users = [f"{library}-{user}" for user in USERS]
                job = self.job([*users, "not valid", None])
                env = {**job.worker_env(), "SPIKE_MAX_RATE": "0"}
                said = job.run(self.python, "provision.py", program=recipe(library), env=env)
                self.assertEqual(said, "")
                statuses = job.statuses("statuses.parquet")
                self.assertIsNone(statuses.pop(None))
                self.assertNotEqual(statuses.pop("not valid"), 0)
                self.assertEqual(statuses, dict.fromkeys(users, 0))
                found = counters(self.addresses)
                self.assertEqual({user: found["users"][user] for user in users}, dict.fromkeys(users, 1))
                self.assertEqual(found["requests"], len(users) * (number + 1))

    def test_each_signs_in_the_same_way(self):
        expected = {user: hmac_of(user) for user in USERS} | {"not valid": None, None: None}
        for library in LIBRARIES:
            with self.subTest(library):
                job = self.job([*expected])
                job.run(self.python, "provision.py", program=signing(recipe(library)))
                self.assertEqual(job.statuses("statuses.parquet"), expected)

    @unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
    def test_the_command(self):
        with store(installed()[0]) as shared:
            job = self.job(USERS[:300], shared.url())
            for _ in range(2):  # the second time its state says that all is done
                job.run_line(command("python -m"))
                self.assertEqual(counters(self.addresses)["users"], dict.fromkeys(USERS[:300], 1))
            self.assertEqual(len(shared.records()), 300)


def hmac_of(user: str) -> str:
    return hmac.new(KEY.encode(), user.encode(), hashlib.sha256).hexdigest()


if __name__ == "__main__":
    unittest.main()
