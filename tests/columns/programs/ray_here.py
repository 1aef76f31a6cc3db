"""Runs a recipe on a Ray of its own: two workers, on the loopback interface, without a dashboard."""

import os
import runpy
import time

import ray


@ray.remote
def worker():
    time.sleep(0.5)
    return os.getpid()


ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=200_000_000)
# Else the first worker has done all before the second one has started.
while len(set(ray.get([worker.remote(), worker.remote()]))) < 2:
    pass
runpy.run_path("provision.py", run_name="__main__")
