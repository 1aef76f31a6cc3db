// Signing in Node, as documented.
//
// In the timed loop: one call of the documented form per id, 256 ids in turn. The protocol is that of ../step.h.

const { createHmac } = require("node:crypto");
const { createInterface } = require("node:readline");

const KEY = "HMAC_KEY_FROM_ADMIN_CONSOLE";
const IDS = Array.from({ length: 256 }, (_, i) => `my_application_user_${String((i + 123) % 1000).padStart(3, "0")}`);
const ANSWER = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199";

function documented(count) {
  let signature;
  for (let i = 0; i < count; i++) signature = createHmac("sha256", KEY).update(IDS[i % 256]).digest("hex");
  return signature;
}

const KINDS = { documented };

if (documented(1) !== ANSWER) throw new Error("not the known answer");
createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, count] = line.split(" ");
  const cpu = process.cpuUsage();
  const wall = process.hrtime.bigint();
  KINDS[name](Number(count));
  const passed = process.hrtime.bigint() - wall;
  const used = process.cpuUsage(cpu);
  console.log(`${(used.user + used.system) * 1000} ${passed}`);
});
