"""`make notices`: makes a bill of materials of cargo-cyclonedx the same on every machine, and exact.

    bill.py BILL RESULT CRATE...    CRATE: "name version", as `cargo tree` lists what is compiled

cargo-cyclonedx names the time and the folder, and crates that only other members of the workspace ask for.
"""

import json
import re
import sys
from pathlib import Path


def main() -> None:
    bill, result, *crates = sys.argv[1:]
    text = re.sub(r'path\+file://[^#"]*#|\?download_url=file://[^#"]*', "", Path(bill).read_text())
    told = json.loads(text)
    del told["metadata"]["timestamp"]
    told.pop("serialNumber", None)
    told["components"] = [part for part in told["components"] if f"{part['name']} {part['version']}" in crates]
    kept = {part["bom-ref"] for part in [told["metadata"]["component"], *told["components"]]}
    told["dependencies"] = [entry for entry in told["dependencies"] if entry["ref"] in kept]
    for entry in told["dependencies"]:
        entry["dependsOn"] = [reference for reference in entry.get("dependsOn", []) if reference in kept]
    Path(result).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
