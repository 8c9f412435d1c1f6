"""Constants of the competition *Severstal: Steel Defect Detection*."""

SLUG = "severstal-steel-defect-detection"
HEIGHT, WIDTH = 256, 1600  # px
N_PIXELS = HEIGHT * WIDTH
CLASSES = (1, 2, 3, 4)
N_CLASSES = len(CLASSES)
N_TRAIN, N_TEST = 12_568, 5_506

# Share of public test strips that show each class, probed on the leaderboard in 2019: 128/43/741/120 of 1,801.
PUBLIC_SHARES = (128 / 1801, 43 / 1801, 741 / 1801, 120 / 1801)

# Where published winners put the minimum total area per class, px: the default rule before any search.
USUAL_MIN_AREA_PX = (600, 600, 1000, 2000)

# A channel may differ from the grey mean by this many levels before a strip counts as coloured.
GREY_TOLERANCE = 8
