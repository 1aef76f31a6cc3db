"""Starts Spark with the key in its settings, without and with a redaction that knows its name."""

import sys

from pyspark.sql import SparkSession

LOGS = {"spark.eventLog.enabled": "true", "spark.eventLog.compress": "false"}

for folder, more in [("logged", {}), ("hidden", {"spark.redaction.regex": sys.argv[2]})]:
    builder = SparkSession.builder.config("spark.executorEnv.SPIKE_HMAC_KEY", sys.argv[1])
    for name, value in {**LOGS, "spark.eventLog.dir": folder, **more}.items():
        builder = builder.config(name, value)
    builder.getOrCreate().stop()
