"""The library's signatures equal the documented form of each language, for the same thousand ids.

The vectors hold the answers: so each language is compared with the same list, whatever else is installed.
"""

import hashlib
import hmac
import json
import os
import shutil
import unittest

from support.client import sign
from support.project import ROOT, clean_env, run, scratch

VECTORS = json.loads((ROOT / "tests" / "vectors" / "signatures.json").read_text())
KEY, SIGNATURES = VECTORS["key"], VECTORS["signatures"]
IDS = "".join(f"{user_id}\n" for user_id in SIGNATURES)

# The documented forms. Each reads ids from stdin; the key is the first argument.
NODE = """
const { createHmac } = require("crypto");
const ids = require("fs").readFileSync(0, "utf8").split("\\n").slice(0, -1);
for (const userId of ids) console.log(createHmac("sha256", process.argv[1]).update(userId).digest("hex"));
"""

PHP = """
foreach (explode("\\n", rtrim(stream_get_contents(STDIN))) as $userId)
    echo hash_hmac('sha256', $userId, $argv[1], false), "\\n";
"""

GO = """
package main

import ("bufio"; "crypto/hmac"; "crypto/sha256"; "encoding/hex"; "fmt"; "os")

func main() {
    lines := bufio.NewScanner(os.Stdin)
    for lines.Scan() {
        h := hmac.New(sha256.New, []byte(os.Args[1]))
        h.Write([]byte(lines.Text()))
        fmt.Println(hex.EncodeToString(h.Sum(nil)))
    }
}
"""


# make finds or installs one that is new enough.
GO_TOOL = os.environ.get("GO", "go")


def need(tool: str, package: str):
    found = shutil.which(tool)
    return unittest.skipUnless(found, f"{tool} is missing (apt-get install {package})")


class DocumentedForms(unittest.TestCase):
    def check(self, *command: object) -> None:
        self.assertEqual(run(*command, input=IDS).split(), list(SIGNATURES.values()))

    def test_there_are_a_thousand_ids(self):
        self.assertGreaterEqual(len(SIGNATURES), 1000)

    def test_ours(self):
        for user_id, signature in SIGNATURES.items():
            self.assertEqual(sign(KEY, user_id), signature, user_id)

    def test_python(self):
        for user_id, signature in SIGNATURES.items():
            ours = hmac.new(KEY.encode(), user_id.encode(), hashlib.sha256).hexdigest()
            self.assertEqual(ours, signature, user_id)

    @need("node", "nodejs")
    def test_node(self):
        self.check("node", "-e", NODE, KEY)

    @need("php", "php-cli")
    def test_php(self):
        self.check("php", "-r", PHP, "--", KEY)

    @need(GO_TOOL, "golang-go")
    def test_go(self):
        with scratch() as folder:
            source = f"{folder}/main.go"
            with open(source, "w", encoding="utf-8") as file:
                file.write(GO)
            env = clean_env(GOFLAGS="-mod=mod", GO111MODULE="off", GOTOOLCHAIN="local")
            run(GO_TOOL, "build", "-o", f"{folder}/sign", source, env=env)
            self.check(f"{folder}/sign", KEY)


if __name__ == "__main__":
    unittest.main()
