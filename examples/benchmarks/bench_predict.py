"""`predict_proba` against one forward pass without gradients.

    python bench_predict.py

The bare function cuts the rows into large batches, takes the softmax in float64 and
returns a NumPy array; of several batch sizes the fastest counts. It gets the same
arrays as `predict_proba`, images as uint8, and computes in the same precision.
"""

import argparse

import torch
from _references import SmallCNN, make_images, make_table
from _timing import alternate, calls_for, machine, parse, report, timed, verdict

from fairskorch import FairNeuralClassifier
from fairskorch.modules import MLP

BATCHES = (256, 1024, 4096, 20_000)


def bare_predict(module, X, batch, device):
    """Return what `predict_proba` returns, and do nothing else."""
    module.eval()
    parts = []
    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=device == "cuda"),
    ):
        for inputs in torch.from_numpy(X).split(batch):
            inputs = inputs.to(device)
            if inputs.dtype == torch.uint8:
                inputs = inputs / 255
            parts.append(module(inputs))
        return torch.cat(parts).double().softmax(dim=1).cpu().numpy()


def measure(name, module, data, device, args):
    clf = FairNeuralClassifier(module, max_epochs=1, device=device, random_state=0)
    clf.fit(*data)
    X, net = data[0], clf.net_.module_
    seconds = {b: fastest(bare_predict, net, X, b, device) for b in BATCHES}
    batch = min(seconds, key=seconds.get)
    number = calls_for(lambda: bare_predict(net, X, batch, device))
    rounds = alternate(
        {
            "ours": timed(clf.predict_proba, X, number=number),
            "bare": timed(bare_predict, net, X, batch, device, number=number),
        },
        args.repeats,
    )
    ratio = rounds.ratio("ours", "bare")
    return {
        "what": f"{name}, {len(X)} rows, {device}",
        "predict_proba ms": f"{1e3 * rounds.median('ours'):.2f}",
        "bare ms": f"{1e3 * rounds.median('bare'):.2f}",
        "bare batch": str(batch),
        "ratio": f"{ratio:.3f}",
        "must": verdict(ratio, most=1.5),
    }


def fastest(function, *args):
    run = timed(function, *args)
    return min(run() for _ in range(4))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args = parse(parser)
    torch.set_num_threads(1)
    print(machine())
    n_rows = 2000 if args.quick else 20_000
    cases = [
        ("MLP 64-64", MLP, make_table(n_rows)),
        ("CNN 28 px", SmallCNN, make_images(n_rows, size=28, channels=1)),
    ]
    devices = ("cpu", "cuda")[: 1 + torch.cuda.is_available()]
    rows = (measure(*case, device, args) for device in devices for case in cases)
    report(f"Median of {args.repeats} alternating rounds", rows, args)


if __name__ == "__main__":
    main()
