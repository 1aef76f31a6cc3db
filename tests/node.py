"""docs/migrate.md and examples/spike.mjs in Node, which gets koffi from npm. `make engines`."""

import re
import shutil
import unittest

from support.pages import blocks
from support.project import counters
from test_migrate import EXAMPLES, PAGE, USER, Guide

NODE_USE = f'\nconsole.log(signature("{USER}"), await accessToken("{USER}"));\n'


class Node(Guide):
    """examples/spike.mjs"""

    def said(self, program: str) -> str:
        if not (self.folder / "spike.mjs").exists():
            shutil.copy(EXAMPLES / "spike.mjs", self.folder)
            (install,) = [block for block in blocks("sh", PAGE) if block.startswith("npm ")]
            super().said("sh", "-ec", install)
        return super().said("node", self.file("main.mjs", program))

    def test_calls_wait_together(self):
        said = self.said("""
            import { token } from "./spike.mjs";
            const users = Array.from({ length: 300 }, (_, number) => `user-${number}`);
            const all = await Promise.all([...users, ...users].map((user) => token(user)));
            console.log(new Set(all).size, all.every((each) => each.startsWith("eyJ")));""")
        self.assertEqual(said, "300 true\n")
        self.assertEqual(counters(self.addresses)["requests"], 300)

    def test_a_worker_thread_has_a_client_of_its_own(self):
        said = self.said("""
            import { isMainThread, Worker } from "node:worker_threads";
            import { token } from "./spike.mjs";
            if (isMainThread) await new Promise((ended) => new Worker(new URL(import.meta.url)).on("exit", ended));
            console.log(isMainThread, (await token("alice")).length);""")
        self.assertEqual(said, "false 119\ntrue 119\n")
        self.assertEqual(counters(self.addresses)["users"], {"alice": 2})

    def test_failures_say_what_is_wrong(self):
        said = self.said("""
            import { invalidate, sign, token } from "./spike.mjs";
            const failed = async (call) => { try { await call(); } catch (error) {
                console.log(error.status, error.http_status, error.attempts, error.retryable, error.message); } };
            await failed(() => token("fault.status.403"));
            await failed(() => token("not valid"));
            await failed(() => sign("z\\u00fcrich"));
            await failed(async () => invalidate("alice", await token("alice")) ?? token("alice"));""")
        self.assertEqual(re.findall(r"^([\d ]+) (\w+ \w+)", said, re.M),
                         [("62 403 1 0", "403 Forbidden"), ("3 0 0 0", "Invalid user"), ("3 0 0 0", "Invalid user"),
                          ("68 200 1 1", "The new")])

    def test_by_hand_and_with_the_library(self):
        self.check_same(*(self.said(program + NODE_USE) for program in self.programs("js")))


if __name__ == "__main__":
    unittest.main()
