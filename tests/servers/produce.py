"""Sends a task to Celery for each user of its stdin, a JSON array, and prints the results as another."""

import json
import sys

from celery import Celery, group

app = Celery("producer")
tasks = group(app.signature("token", [user]) for user in json.load(sys.stdin))
print(json.dumps(tasks.delay().get(timeout=60)))
