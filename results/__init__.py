"""What came out: the stored form of a run, and every table and caption derived from its confusion counts.

Nothing here needs torch or a GPU. `schema` reads and writes runs, `measures` turns counts into scores, `scores` applies
them to a run, `groups` says which runs compare, `tables` and its kin make a `table.Table` of them, `terminal`,
`markdown` and `latex` dress it, and `render` makes the report.
"""
