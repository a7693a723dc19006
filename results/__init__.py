"""What came out: the stored form of a run, and every table and caption derived from its confusion counts.

Nothing here needs torch or a GPU. `schema` reads and writes runs, `measures` turns counts into scores,
`scores` applies them to a run, `tables` compares runs and `render` prints them.
"""
