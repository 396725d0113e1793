"""Tables fit any width and never lose a digit."""

from hypothesis import example, given
from hypothesis import strategies as st

from tet_deploy.layout import Table

numbers = st.one_of(
    st.integers().map("{:,}".format), st.floats(allow_nan=False).map("{:.3e}".format), st.just("128 to 288"), st.none()
)
words = st.text(st.sampled_from("abcdefgh-_[] \n"), max_size=60)


@st.composite
def tables(draw):
    """Tables of 1 to 8 columns, of which some hold text."""
    count = draw(st.integers(1, 8))
    columns = draw(st.lists(words.filter(str.strip), min_size=count, max_size=count))
    text = draw(st.lists(st.sampled_from(columns), unique=True, max_size=2))
    row = st.tuples(words, *[words if column in text else numbers for column in columns[1:]])
    return Table(draw(words), columns, draw(st.lists(row, max_size=4)), text)


@given(tables(), st.integers(20, 200))
@example(Table("t", ("node", "shape", "fan-out"), [("conv2", "16x10x10", "128 to 288")]), 20)
def test_every_word_stands_whole_in_lines_that_fit(table, width):
    """At any width each number and each word of a cell is printed whole, and a line is too long only for one such word."""
    lines = table.fit(width).split("\n")
    shown = [word for line in lines for word in line.split()]
    for word in (word for row in table.rows for cell in row if cell is not None for word in cell.split()):
        assert word in shown
        shown.remove(word)
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)


def test_rows_become_lists_where_columns_do_not_fit():
    """Wide: words wrap. Narrower: each row is a list of names and values. Narrower still: values stand below names."""
    table = Table(
        "t", ("layer", "multiplications", "what it is"), [("conv1", "76,160.4", "of analog frames")], ["what it is"]
    )
    assert table.fit(45).split("\n")[0] == "layer  multiplications  what it is"
    assert table.fit(33).split("\n")[-2:] == ["conv1         76,160.4  of analog", "                        frames"]
    assert table.fit(26).split("\n") == [
        "layer            conv1",
        "multiplications  76,160.4",
        "what it is       of analog",
        "                 frames",
    ]
    assert table.fit(20).split("\n")[2:4] == ["multiplications", "  76,160.4"]


def test_html_shows_names_as_text():
    """A node called like a tag is shown, not obeyed."""
    assert "<td>&lt;script&gt;</td>" in Table("t", ("node",), [("<script>",)]).html()
