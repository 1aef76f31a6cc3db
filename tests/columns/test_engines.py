"""docs/columns.md on engines with workers: Spark with two JVMs, Ray and Dask with two processes. `make engines`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import unittest
from contextlib import ExitStack

from columns.page import HERE, PAGE, Job, command, interpreter, recipe, signing
from python import environment
from servers.processes import running
from support.project import KEY, counters, sandbox, scratch
from support.store import installed, store

PROGRAMS = HERE / "programs"
JAVA = "default-jre-headless"
# What a client has in flight at most. More means that two workers were at it.
ONE_PROCESS = 32


def java() -> bool:
    """Whether there is one. Root gets Debian's where there is none."""
    if shutil.which("java") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Java is installed from Debian: {JAVA}, some 200 MB.", flush=True)
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", JAVA]):
            subprocess.run(["apt-get", *words], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                           stdout=sys.stderr, check=True, timeout=600)
    return shutil.which("java") is not None


def setUpModule() -> None:
    global PYTHON
    chosen = interpreter()
    print(f"With {chosen.name}. Spark, Ray and Dask come from PyPI, once, some 700 MB.", flush=True)
    PYTHON = environment("engines", chosen.path, HERE / "engines.txt")


def users(*, count: int = 2000, parts: int = 4) -> dict[str, list[str | None]]:
    """Of each part of a table of users by its file."""
    size = count // parts
    return {f"users/{part}.parquet": [f"user-{part * size + number}" for number in range(size)] for part in range(parts)}


class Engine(unittest.TestCase):
    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.addresses = self.stack.enter_context(sandbox("--delay-ms", "50"))

    def job(self, store_url: str = "") -> Job:
        return Job(PYTHON, self.stack.enter_context(scratch()), self.addresses, store_url)

    def check(self, job: Job, table: dict[str, list[str | None]]) -> None:
        """Each user of the table has a token, by one exchange."""
        everyone = [user for part in table.values() for user in part]
        self.assertEqual(job.statuses("statuses"), dict.fromkeys(everyone, 0))
        self.assertEqual(counters(self.addresses)["users"], dict.fromkeys(everyone, 1))


@unittest.skipUnless(java(), f"there is no Java (apt-get install {JAVA})")
class Spark(Engine):
    # The executors have the printed settings alone: nothing of them is in the driver's environment.
    SETTINGS = """
spark.master {master}
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.ui.enabled false
spark.sql.parquet.compression.codec zstd
spark.executorEnv.SPIKE_API_BASE_URL {url}
"""

    def submit(self, job: Job, line: str, program: str, master: str = "local-cluster[2,1,1024]") -> str:
        (job.folder / "spark-defaults.conf").write_text(
            self.SETTINGS.format(master=master, url=job.service["SPIKE_API_BASE_URL"]))
        env = {**job.env, "SPARK_CONF_DIR": str(job.folder), "SPARK_LOCAL_IP": "127.0.0.1", "TMPDIR": str(job.folder),
               "SPARK_LOCAL_DIRS": str(job.folder), "SPARK_WORKER_DIR": str(job.folder / "work"),
               "PYSPARK_PYTHON": str(PYTHON)}
        return job.run_line(line, program=program, env=env)

    @unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
    def test_a_job_that_runs_again_exchanges_only_what_is_missing(self):
        shared = self.stack.enter_context(store(installed()[0]))
        job = self.job(shared.url())
        half = users()
        job.write(half)
        said = self.submit(job, command("spark-submit"), recipe("pyspark"))
        executors = set(re.findall(r"Starting task .* stage 1\.0 .*executor (\d+)", said))
        self.assertEqual(executors, {"0", "1"})
        self.check(job, half)
        shutil.rmtree(job.folder / "statuses")
        twice = users(count=4000, parts=8)
        job.write(twice)
        self.submit(job, command("spark-submit"), recipe("pyspark"))
        self.check(job, twice)
        self.assertEqual(len(shared.records()), 4000)

    def test_the_key_in_sparks_settings_is_logged(self):
        job = self.job()
        for folder in ("logged", "hidden"):
            (job.folder / folder).mkdir()
        redaction = re.search(r"`spark\.redaction\.regex=(.*?)`", PAGE)[1]
        line = f"spark-submit {PROGRAMS / 'logged.py'} {KEY} {shlex.quote(redaction)}"
        self.submit(job, line, "", master="local[1]")
        texts = {folder: "".join(path.read_text() for path in (job.folder / folder).rglob("*") if path.is_file())
                 for folder in ("logged", "hidden")}
        for text in texts.values():
            self.assertIn("SPIKE_HMAC_KEY", text)
        self.assertIn(KEY, texts["logged"])
        self.assertNotIn(KEY, texts["hidden"])

    def test_rates(self):
        """Printed, not judged: a busy machine is slow at each in its own way."""
        job = self.job()
        said = self.submit(job, command("spark-submit").replace("provision.py", str(PROGRAMS / "rates.py")), "")
        print(re.search(r"^mapInArrow signs .*$", said, re.M)[0], flush=True)


class Ray(Engine):
    def test_two_workers(self):
        job, table = self.job(), users()
        job.write(table)
        # Small files are tasks of their own, as large ones are. Sockets are below RAY_TMPDIR.
        env = {**job.worker_env(), "SPIKE_MAX_RATE": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
               "RAY_DATA_USE_DATASOURCE_V2": "0", "RAY_TMPDIR": str(job.folder)}
        job.run(PYTHON, PROGRAMS / "ray_here.py", program=recipe("ray"), env=env)
        self.check(job, table)
        self.assertGreater(counters(self.addresses)["max_in_flight"], ONE_PROCESS)


class Dask(Engine):
    def test_two_workers(self):
        job, table = self.job(), users()
        job.write(table)
        tool, only_here = PYTHON.parent / "dask", ["--host", "127.0.0.1", "--no-dashboard"]
        scheduler = self.start(job, [tool, "scheduler", *only_here, "--port", "0"], job.env)
        address = scheduler.wait_for(r"tcp://127\.0\.0\.1:\d+")[0]
        env = {**job.worker_env(), "SPIKE_MAX_RATE": "0"}
        workers = self.start(job, [tool, "worker", address, *only_here, "--nworkers", "2", "--nthreads", "1"], env)
        workers.wait_for(r"(?s)Starting established connection.*Starting established connection")
        env = {**job.env, "DASK_SCHEDULER_ADDRESS": address}
        job.run(PYTHON, "provision.py", program=recipe("dask.dataframe"), env=env)
        self.check(job, table)
        self.assertGreater(counters(self.addresses)["max_in_flight"], ONE_PROCESS)
        shutil.rmtree(job.folder / "statuses")
        job.run(PYTHON, "provision.py", program=signing(recipe("dask.dataframe")), env=env)
        self.assertEqual({len(signature) for signature in job.statuses("statuses").values()}, {64})
        workers.stop(signal.SIGTERM)

    def start(self, job: Job, words: list[object], env: dict[str, str]):
        folder = job.folder / str(words[1])
        folder.mkdir()
        return self.stack.enter_context(running(words, folder, env))


if __name__ == "__main__":
    unittest.main()
