"""How good a transcriber is: pooled counts, intervals, and reports bound to the bytes that took part.

report = evaluate(transcriber, read_dataset(Path("english-digits"), "test"), language="en")
report.value, report.interval
"""
