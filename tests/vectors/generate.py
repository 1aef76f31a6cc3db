"""Writes signatures.json anew: a thousand random valid ids and what the documented Python form signs.

The seed is fixed, so that it always writes the same file.
"""

import hashlib
import hmac
import json
import random
import string
from pathlib import Path

KEY = "HMAC_KEY_FROM_ADMIN_CONSOLE"
ALLOWED = string.ascii_letters + string.digits + "._-"
# The known answers of the service's documentation, and the ids around the borders of SHA-256's blocks.
FIXED = ["my_application_user_123", "User1", "user1", "a", "A" * 128]
BORDERS = ["b" * length for length in (54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 121, 127, 128)]


def sign(user_id: str) -> str:
    return hmac.new(KEY.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def main() -> None:
    rng = random.Random(20151021)
    drawn = ["".join(rng.choices(ALLOWED, k=rng.randint(1, 128))) for _ in range(1000)]
    rows = {user_id: sign(user_id) for user_id in FIXED + BORDERS + drawn}
    path = Path(__file__).with_name("signatures.json")
    path.write_text(json.dumps({"key": KEY, "signatures": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
