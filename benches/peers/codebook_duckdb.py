"""DuckDB's side of benches/codebook.rs: the use of codes by SQL over the same shards.

usage: codebook_duckdb.py FOLDER

Told `codes`, it counts codes; told `all`, also by place, beside each other (in one row in 32, about as
many as vqtok samples of 100 million tokens) and by label. It answers with seconds of processor time,
seconds of the clock, tokens, and the uses of the code that is used most.
"""

import sys
import time

import duckdb

CODES = """
SELECT code, count(*) AS uses
FROM (SELECT unnest(tokens) AS code FROM shards) GROUP BY code ORDER BY uses DESC
"""
PLACES = """
SELECT place, code, count(*) AS uses
FROM (SELECT unnest(tokens) AS code, generate_subscripts(tokens, 1) AS place FROM shards)
GROUP BY place, code
"""
LABELS = """
SELECT label, code, count(*) AS uses
FROM (SELECT label, unnest(tokens) AS code FROM shards) GROUP BY label, code
"""
NEIGHBOURS = """
SELECT before, code, count(*) AS pairs
FROM (SELECT unnest(tokens[:-2]) AS before, unnest(tokens[2:]) AS code
      FROM shards WHERE file_row_number % 32 = 0)
GROUP BY before, code
"""


def main():
    con = duckdb.connect()
    con.execute("SET threads = 1")
    con.execute(
        "CREATE VIEW shards AS SELECT * FROM "
        f"read_parquet('{sys.argv[1]}/*.parquet', file_row_number = true)"
    )
    print("ready", flush=True)
    for line in sys.stdin:
        clock, processor = time.time(), time.process_time()
        uses = con.execute(CODES).fetchall()
        if line.strip() == "all":
            for query in (PLACES, LABELS, NEIGHBOURS):
                con.execute(query).fetchall()
        tokens = sum(row[1] for row in uses)
        print(time.process_time() - processor, time.time() - clock, tokens, uses[0][1], flush=True)


main()
