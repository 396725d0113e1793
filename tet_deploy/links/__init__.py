"""Any two links of the chain from training to chip, compared: what must be equal is proved, what is lossy is measured."""

from tet_deploy.links.comparing import compare, compared, recordings_of
from tet_deploy.links.deviation import Deviation, NodeDeviation
from tet_deploy.links.link import Link, open_link, open_links
from tet_deploy.links.pair import Pair

__all__ = ["Deviation", "Link", "NodeDeviation", "Pair", "compare", "compared", "open_link", "open_links", "recordings_of"]
