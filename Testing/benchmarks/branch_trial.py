"""trial.py prep CKPT OUT BATCHES | trial.py run OUT VARIANT STEPS [LR]"""
import sys, time, json
from dataclasses import replace, fields
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from multiorganseg.progress import Progress
from multiorganseg.networks.branching import InstanceNorm, SLOPE
from multiorganseg_training.recipe.file import load_recipe
from multiorganseg_training.recipe.schedule import rate_factor
from multiorganseg_training.run.build import build_training, recipe_network, recipe_method
from multiorganseg_training.run.fixed import _stored, _restored
from multiorganseg_training.data.batches import BatchSource
from multiorganseg_training.data.cases import split_cases, training_cases
from multiorganseg_training.data.cache import prepare_cases
from multiorganseg_training.losses.frozen import Frozen, new_organ_losses
from safetensors.torch import save_file, load_file
torch.set_num_threads(1)
NEW = ["pancreas", "kidney_left"]
FIVE = ["btcv_00", "btcv_01", "btcv_02", "btcv_05", "btcv_06"]
def recipe_of():
    base = load_recipe(Path(sys.argv[5]))
    keys = (*base.data.table.keys, *NEW)
    known = {"*": [], **{c: NEW for c in FIVE}}
    return replace(base, method="add_organ",
        data=replace(base.data, labels={str(i): k for i, k in enumerate(keys, 1)}, known=known),
        network=replace(base.network, arguments={**base.network.arguments, "branches": [2]}),
        augmentation=replace(base.augmentation, organ_centred=0.5, favoured=tuple(NEW), favoured_share=1/3),
        optimisation=replace(base.optimisation, batch_size=2, labelled_per_batch=1))
def prep(ckpt, out, count):
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(ckpt, map_location="cpu", weights_only=False)
    r = recipe_of(); net = recipe_network(r)
    miss = net.load_state_dict(state["average"], strict=False); print(state["iteration"], {k.split(".")[0] for k in miss.missing_keys}, miss.unexpected_keys)
    net.eval().requires_grad_(False)
    method = recipe_method(r, net)
    training, fold = split_cases(training_cases(Path(sys.argv[6]), r), r.data.validation)
    cases = prepare_cases(training, Path(sys.argv[7]), r.preprocessing, Progress())
    src = BatchSource(r, cases, np.random.default_rng(0), torch.device("cpu"))
    orig = method._frozen
    feats = []
    def frozen(network, image, maps, said):
        o = network.decode(image, maps, 1, [])[0]
        feats.append(o.features)
        return orig(network, image, maps, said)
    method._frozen = frozen
    # three annotated patches of four: alternate 1 and 2 labelled
    for n in range(count):
        src._recipe = replace(r, optimisation=replace(r.optimisation, labelled_per_batch=1 if n % 2 else 2))
        feats.clear()
        with torch.autocast("cpu", torch.bfloat16):
            seen = method.see(net, src.draw(n), np.random.default_rng(n))
            seen["maps.dec"] = torch.cat(feats)
        save_file(_stored(seen), out / f"{n}.safetensors")
        print(n, time.process_time(), flush=True)
    r2 = replace(r, data=replace(r.data, known={}))
    _, fold = split_cases(training_cases(Path(sys.argv[6]), r2), r.data.validation)
    n = 0
    for case in prepare_cases(fold, Path(sys.argv[7]), r.preprocessing, Progress()):
        for organ in NEW:
            ch = r.data.table.value(organ)
            c = np.argwhere(case.labels == ch).mean(0).astype(int)
            p = r.network.patch_shape
            lo = [int(np.clip(x - s // 2, 0, max(0, d - s))) for x, s, d in zip(c, p, case.labels.shape)]
            sl = tuple(slice(a, a + s) for a, s in zip(lo, p))
            img, lab = case.image[sl].astype(np.float32), case.labels[sl]
            pad = [(0, s - d) for s, d in zip(p, img.shape)]
            img, lab = np.pad(img, pad), np.pad(lab, pad)
            image = torch.from_numpy(img)[None, None]
            with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
                maps = net.encode(net.fold(image)); o = net.decode(image, maps, 1, [])[0]
            d = {"image": image, **{f"maps.{i}": m for i, m in enumerate(maps)}, "maps.dec": o.features,
                 "ground": o.logits[:, 0].float(), "top": o.logits.float().amax(1)}
            s = _stored(d); s["labels"] = torch.from_numpy(lab.astype(np.uint8)); s["channel"] = torch.tensor(ch)
            save_file(s, out / f"val{n}.safetensors"); n += 1

def norm(w): return nn.Sequential(InstanceNorm(w, affine=True), nn.LeakyReLU(SLOPE, inplace=True))
def conv(a, b, k=3): return nn.Sequential(nn.Conv3d(a, b, k, padding=k//2, bias=False), norm(b))
def up(x, space): return F.interpolate(x, size=space, mode="trilinear", align_corners=False)
class Any(nn.Module):
    """dec: use decoder features; refine: 3x3 conv at each level with these widths; body widths"""
    def __init__(self, net, dec=False, refine=None, width=16, depth=2, levels=None):
        super().__init__()
        W = list(net_widths)
        self.dec, self.refine = dec, refine
        if refine:
            self.lat = nn.ModuleList(nn.Conv3d(w, r, 1, bias=False) for w, r in zip(W, refine))
            self.down = nn.ModuleList(nn.Conv3d(refine[i+1], refine[i], 1, bias=False) for i in range(len(W)-1))
            self.ref = nn.ModuleList(conv(r, r) if i else norm(r) for i, r in enumerate(refine))
            top = refine[0]
        else:
            self.lat = nn.ModuleList(nn.Conv3d(w, width, 1, bias=False) for w in W)
            self.joined = norm(width); top = width
        self.fromdec = nn.Conv3d(W[0], top, 1, bias=False) if dec else None
        self.detail = nn.Sequential(nn.Conv3d(1, 8, (3, 4, 4), (1, 2, 2), padding=1, bias=False), norm(8))
        body = [conv(top + 8, width)] + [conv(width, width) for _ in range(depth - 1)]
        self.body = nn.Sequential(*body)
        self.head = nn.ConvTranspose3d(width, 2, (1, 2, 2), (1, 2, 2))
        nn.init.zeros_(self.head.weight); nn.init.constant_(self.head.bias, -4.6)
    def forward(self, image, maps, dec):
        L = len(maps)
        x = self.lat[-1](maps[-1])
        if self.refine: x = self.ref[-1](x)
        for i in range(L - 2, -1, -1):
            if self.refine:
                x = up(self.down[i](x), maps[i].shape[2:]) + self.lat[i](maps[i])
                if i == 0 and self.dec: x = x + self.fromdec(dec)
                x = self.ref[i](x)
            else:
                x = up(x, maps[i].shape[2:]) + self.lat[i](maps[i])
        if not self.refine:
            if self.dec: x = x + self.fromdec(dec)
            x = self.joined(x)
        return self.head(self.body(torch.cat([x, self.detail(image)], 1)))
R = [16, 24, 32, 48, 48]
VARIANTS = {
 "now": dict(), "dec": dict(dec=True), "refine": dict(refine=R), "both": dict(dec=True, refine=R),
 "wide": dict(dec=True, width=32), "both32": dict(dec=True, refine=[32, 48, 64, 64, 64], width=32), "b": dict(dec=True, refine=[16, 24, 32, 48, 64]),
}
net_widths = [32, 48, 96, 160, 192]
def run(out, variant, steps, lr=2e-3, head=10.0, seed=0):
    torch.manual_seed(seed)
    b = Any(None, **VARIANTS[variant])
    heads = list(b.head.parameters()); rest = [p for n, p in b.named_parameters() if not n.startswith("head")]
    opt = torch.optim.AdamW([{"params": rest, "peak": lr}, {"params": heads, "peak": lr * head}], lr=lr, weight_decay=1e-4)
    files = sorted(out.glob("[0-9]*.safetensors"), key=lambda p: int(p.stem))
    order = np.concatenate([np.random.default_rng((seed, t)).permutation(len(files)) for t in range(steps // len(files) + 1)])
    from copy import deepcopy
    ema = deepcopy(b); t0 = time.process_time(); hist = []
    def forward(m, s):
        maps = tuple(s[f"maps.{i}"] for i in range(5))
        return m(s["image"], maps, s["maps.dec"])
    for it in range(steps):
        s = _restored(load_file(files[order[it]]))
        f = rate_factor("poly" if False else recipe_of().optimisation.schedule, it, steps, 0.03)
        for g in opt.param_groups: g["lr"] = g["peak"] * f
        with torch.autocast("cpu", torch.bfloat16): added = forward(b, s)
        n = len(added) // 2; loss = 0
        for own in (slice(0, n), slice(n, None)):
            fr = Frozen(**{fd.name: s[fd.name][own] for fd in fields(Frozen)})
            ce, dice, ps = new_organ_losses(added[own], fr, torch.zeros(2, 2, dtype=torch.bool), "softmax")
            loss = loss + (ce + 0.25 * dice + ps) / 2
        opt.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(b.parameters(), 10.0); opt.step()
        d = min(0.99, (1 + it) / (10 + it))
        with torch.no_grad():
            for p, q in zip(ema.parameters(), b.parameters()): p.lerp_(q, 1 - d)
        hist.append(float(loss))
    secs = (time.process_time() - t0) / steps
    ema.eval(); res = {k: [] for k in NEW}
    tot = {}
    for p in sorted(out.glob("val*.safetensors")):
        raw = load_file(p); labels, ch = raw.pop("labels"), int(raw.pop("channel")); s = _restored(raw)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16): a = forward(ema, s).float() + s["ground"][:, None]
        best, who = a.max(1); who = torch.where(best > s["top"], who + 1, 0)[0]
        i = ch - 11
        pred, ref = who == i, labels == ch
        res[NEW[i - 1]].append(2 * float((pred & ref).sum()) / max(1, float(pred.sum() + ref.sum())))
    print(variant, f"lr {lr} steps {steps} params {sum(p.numel() for p in b.parameters())} {secs:.2f} s/step loss {np.mean(hist[-len(files):]):.3f}",
          {k: (round(float(np.mean(v)), 3), [round(x, 2) for x in v]) for k, v in res.items()}, flush=True)
if __name__ == "__main__":
    if sys.argv[1] == "prep": prep(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        out = Path(sys.argv[2])
        for spec in sys.argv[3].split(","):
            v, *l = spec.split(":"); run(out, v, int(sys.argv[4]), float(l[0]) if l else 2e-3, float(l[1]) if len(l) > 1 else 10.0)
