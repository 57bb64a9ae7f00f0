"""One pass over rows that several readers want at the same moment."""

import numpy as np
import torch


class SharedPass:
    """Outputs of a net for several parts of the rows, each row read once.

    Parameters
    ----------
    net : GroupPenaltyNet
        An initialised net.
    parts : list of GroupedRows
        Parts of one source, which may overlap.
    """

    def __init__(self, net, parts):
        rows, *others = parts
        for other in others:
            rows = rows.followed_by(other)
        _, first, inverse = np.unique(
            rows.index.numpy(), return_index=True, return_inverse=True
        )
        self.batches = net.get_iterator(rows.subset(first), training=False)
        places = torch.as_tensor(inverse, dtype=torch.long).to(net.device)
        self.places = places.split([len(part) for part in parts])

    def outputs(self, net):
        """Return the outputs of each part: a list of (n_rows, n_classes)."""
        outputs = torch.cat([net.infer(fields) for fields, _ in self.batches])
        return [outputs.index_select(0, places) for places in self.places]
