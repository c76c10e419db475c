"""Runs the queries of schemas/SQL.md with duckdb on an output of vqtok, and checks what can be known of
their answers without SQL. Usage: python tests/interop/read_sql.py OUT

Exits non-zero with the first query that fails, or whose answer isn't what pyarrow says.
"""

import collections
import os
import re
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

PAGE = Path(__file__).resolve().parents[2] / "schemas" / "SQL.md"


def queries():
    """(the line above, the statement) of every block of SQL on the page, in order."""
    text = PAGE.read_text()
    for block in re.finditer(r"([^\n]*)\n\n```sql\n(.*?)```", text, re.S):
        for statement in block[2].split(";"):
            if statement.strip():
                yield block[1], statement


def main():
    os.chdir(sys.argv[1])
    table = pq.read_table("tokens", columns=["key", "label", "tokens", "content_sha256"])
    rows = table.to_pylist()
    codes = collections.Counter(code for row in rows for code in row["tokens"])
    con = duckdb.connect()
    answers = {}
    for title, statement in queries():
        try:
            answer = con.execute(statement).fetchall()
        except duckdb.Error as error:
            sys.exit(f"{PAGE.name}: {title}\n{statement}\n{error}")
        if not statement.lstrip().startswith("CREATE"):
            answers[title] = answer
    assert len(answers) >= 14, f"only {len(answers)} queries were found on the page"

    def answer(begin):
        found = [rows for title, rows in answers.items() if title.startswith(begin)]
        assert len(found) == 1, f"the page has {len(found)} queries that begin with {begin!r}"
        return found[0]

    labels = collections.Counter(row["label"] for row in rows)
    assert {row[0]: row[1] for row in answer("Rows, images")} == dict(labels)
    assert answer("Planned images") == [(0,)]
    most = sorted(codes.items(), key=lambda item: (-item[1], item[0]))[:20]
    assert [row[:2] for row in answer("The codes that are used most")] == most
    assert [row[:2] for row in answer("The same counts")] == most
    ((level, dead, bits, perplexity),) = answer("Dead codes")
    assert level == 0 and 0 <= dead and 0 < bits and abs(2**bits - perplexity) < 1e-6
    places = answer("One token a row")
    assert [place[3] for place in places if place[0] == places[0][0]] == [
        code for row in rows if row["key"] == places[0][0] for code in row["tokens"]
    ][: len(places)]
    files = collections.defaultdict(set)
    for row in rows:
        files[row["content_sha256"]].add(row["key"])
    several = sorted(sorted(keys) for keys in files.values() if len(keys) > 1)
    assert sorted(row[0] for row in answer("The same file")) == several
    print(f"{len(answers)} queries of {PAGE.name} answered")


main()
