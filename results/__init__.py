"""What came out: the stored form of a run, and every table, figure and caption derived from its confusion counts.

Nothing here needs torch or a GPU. `schema` reads and writes runs, `measures` turns counts into scores, `scores` applies
them to a run, `groups` says which runs compare, `tables` and its kin make a `table.Table` of them, `terminal`,
`markdown` and `latex` dress it, `figures` draws, and `render` makes the report. `published_numbers` quotes papers.
"""
