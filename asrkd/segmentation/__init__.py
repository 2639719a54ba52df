"""Long recordings in, segments out: where there is speech, in pieces that a teacher can take.

`asrkd segment` reads each cut in blocks (`samples`), scores every 32 ms of it as speech or not (`activity`), makes segments of the scores
(`segments`), and writes them as cuts of the same recordings (`run`).
"""
