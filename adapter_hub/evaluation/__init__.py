"""How good a transcriber is: pooled counts, intervals, and reports bound to the bytes that took part.

options = EvaluationOptions(language="en")
report = evaluate(transcriber, read_dataset(Path("english-digits"), "test"), options)
report.value, report.interval
"""
