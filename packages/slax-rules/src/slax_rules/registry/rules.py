"""The registry of learning rules, with each rule's requirements, conditions for exactness, omissions and costs."""

from slax_rules.bptt import BPTT, TBPTT
from slax_rules.forward_propagation import fptt
from slax_rules.influence.rtrl import RTRL
from slax_rules.influence.snap import SnAp
from slax_rules.influence.uoro import UORO
from slax_rules.layerwise.approximate_otpe import ApproximateOTPE
from slax_rules.layerwise.decolle import DECOLLE
from slax_rules.layerwise.e_prop import EProp
from slax_rules.layerwise.ostl import OSTL
from slax_rules.layerwise.otpe import OTPE
from slax_rules.layerwise.ottt import OTTT
from slax_rules.layerwise.pp_prop import PPProp
from slax_rules.layerwise.sltt import SLTT
from slax_rules.registry.entry import Exactness, RuleEntry, Rules, Style

ANY_CELL = "any cell"
LAYERS = "layers of a Linear or Conv and any element-wise neuron"
UNIFORM = "layers of a Linear or Conv and a linear neuron whose parameters are the same in the entire layer"
ABOVE = "paths through the memory of the layers above, and over late edges"
LAST = "a single layer; a layer with no memory above it"


def _bibtex(key: str, kind: str, **fields: str) -> str:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


OSTL_SOURCE = "Bohnstingl et al. 2022, doi 10.1109/TNNLS.2022.3153985"
OSTL_BIBTEX = _bibtex(
    "bohnstingl2022ostl",
    "article",
    author="Bohnstingl, Thomas and Wo{\\'z}niak, Stanis{\\l}aw and Pantazi, Angeliki and Eleftheriou, Evangelos",
    title="Online Spatio-Temporal Learning in Deep Neural Networks",
    journal="IEEE Transactions on Neural Networks and Learning Systems",
    year="2022",
    doi="10.1109/TNNLS.2022.3153985",
)
OTPE_SOURCE = "Summe, Schaefer, Joshi 2023, arXiv 2311.16151"
OTPE_BIBTEX = _bibtex(
    "summe2023otpe",
    "misc",
    author="Summe, Thomas and Schaefer, Clemens JS and Joshi, Siddharth",
    title="Estimating Post-Synaptic Effects for Online Training of Feed-Forward {SNNs}",
    year="2023",
    eprint="2311.16151",
    archivePrefix="arXiv",
)

# Colors of Okabe and Ito, and of Tol's scheme "muted", designed for all kinds of color vision. Rules of one family share a
# hue; markers and hatches distinguish them, and all rules where there is no color.
RULES: dict[str, RuleEntry] = Rules(
    bptt=RuleEntry(
        title="BPTT",
        rule=BPTT,
        requires=ANY_CELL,
        exact=Exactness(always=True),
        omits="nothing",
        memory="T (I + N S)",
        time="P",
        source="Werbos 1990, doi 10.1109/5.58337",
        bibtex=_bibtex(
            "werbos1990bptt",
            "article",
            author="Werbos, Paul J.",
            title="Backpropagation Through Time: What It Does and How to Do It",
            journal="Proceedings of the IEEE",
            volume="78",
            number="10",
            year="1990",
            doi="10.1109/5.58337",
        ),
        style=Style("#4D4D4D", "o", "-", ""),
        updates=("offline",),
    ),
    tbptt=RuleEntry(
        title="TBPTT(10)",
        rule=TBPTT,
        options={"steps": 10},
        requires=ANY_CELL,
        exact=Exactness(steps=10),
        omits="paths from one piece of the sequence to the next",
        memory="K (I + N S), K = 10",
        time="P",
        source="Williams, Peng 1990, doi 10.1162/neco.1990.2.4.490",
        bibtex=_bibtex(
            "williams1990tbptt",
            "article",
            author="Williams, Ronald J. and Peng, Jing",
            title="An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories",
            journal="Neural Computation",
            volume="2",
            number="4",
            year="1990",
            doi="10.1162/neco.1990.2.4.490",
        ),
        style=Style("#A6A6A6", "s", "--", "//"),
    ),
    rtrl=RuleEntry(
        title="RTRL",
        rule=RTRL,
        requires=ANY_CELL,
        exact=Exactness(always=True),
        omits="nothing",
        memory="all states times all parameters of the model",
        time="all states times P",
        source="Williams, Zipser 1989, doi 10.1162/neco.1989.1.2.270",
        bibtex=_bibtex(
            "williams1989rtrl",
            "article",
            author="Williams, Ronald J. and Zipser, David",
            title="A Learning Algorithm for Continually Running Fully Recurrent Neural Networks",
            journal="Neural Computation",
            volume="1",
            number="2",
            year="1989",
            doi="10.1162/neco.1989.1.2.270",
        ),
        style=Style("#332288", "<", "-", "||"),
    ),
    snap=RuleEntry(
        title="SnAp-1",
        rule=SnAp,
        options={"n": 1},
        requires=ANY_CELL,
        exact=Exactness(
            condition="without edges, where a neuron has one state; with n steps' reach, where n steps reach all"
        ),
        omits="the influence of a parameter on states that it does not reach within n steps",
        memory="all states times all parameters of the model, masked",
        time="all states squared times P",
        source="Menick et al. 2021, arXiv 2006.07232",
        bibtex=_bibtex(
            "menick2021snap",
            "inproceedings",
            author="Menick, Jacob and Elsen, Erich and Evci, Utku and Osindero, Simon and Simonyan, Karen and Graves, Alex",
            title="A Practical Sparse Approximation for Real Time Recurrent Learning",
            booktitle="International Conference on Learning Representations",
            year="2021",
            eprint="2006.07232",
            archivePrefix="arXiv",
        ),
        style=Style("#8A7FC7", ">", "--", "--"),
    ),
    uoro=RuleEntry(
        title="UORO",
        rule=UORO,
        needs_rngs=True,
        requires=ANY_CELL,
        exact=Exactness(in_the_mean=True),
        omits="nothing; it adds noise",
        memory="N S + P",
        time="P",
        source="Tallec, Ollivier 2018, arXiv 1702.05043",
        bibtex=_bibtex(
            "tallec2018uoro",
            "inproceedings",
            author="Tallec, Corentin and Ollivier, Yann",
            title="Unbiased Online Recurrent Optimization",
            booktitle="International Conference on Learning Representations",
            year="2018",
            eprint="1702.05043",
            archivePrefix="arXiv",
        ),
        style=Style("#B9AEDC", "d", ":", "++"),
    ),
    ostl=RuleEntry(
        title="OSTL",
        rule=OSTL,
        requires=LAYERS,
        exact=Exactness(last_layers=1, condition=LAST),
        omits=ABOVE,
        memory="S P",
        time="S^2 P",
        source=OSTL_SOURCE,
        bibtex=OSTL_BIBTEX,
        style=Style("#0072B2", "^", "-", "\\\\"),
    ),
    ostl_with_recurrence=RuleEntry(
        title="OSTL with recurrence",
        rule=OSTL,
        options={"recurrence": True},
        requires=f"{LAYERS}, with edges from a layer to itself alone",
        exact=Exactness(last_layers=1, condition=LAST),
        omits="paths through the memory of the layers above",
        memory="N S times P and the layer's own recurrent weights",
        time="N times as much",
        source=OSTL_SOURCE,
        bibtex=OSTL_BIBTEX,
        style=Style("#56B4E9", "v", "--", "///"),
    ),
    otpe=RuleEntry(
        title="OTPE",
        rule=OTPE,
        requires=f"{LAYERS}, with one decay in the layer above",
        exact=Exactness(
            last_layers=2,
            condition="if the last one integrates or has a soft reset that passes no gradient (otherwise the last layer)",
        ),
        omits="paths through time in the layers above, except for one leaky sum",
        memory="(S + 1) P + N",
        time="S^2 P",
        source=OTPE_SOURCE,
        bibtex=OTPE_BIBTEX,
        style=Style("#D55E00", "D", "-", "xx"),
    ),
    approximate_otpe=RuleEntry(
        title="approximate OTPE",
        rule=ApproximateOTPE,
        requires=f"{UNIFORM}, with one decay in the layer above",
        exact=Exactness(condition="where OTPE is, if in addition psi does not change over time"),
        omits="what OTPE omits, paths through spikes, and how psi changes over time",
        memory="2 S I + S N",
        time="P",
        source=OTPE_SOURCE,
        bibtex=OTPE_BIBTEX,
        style=Style("#E69F00", "h", "--", "\\\\\\"),
    ),
    ottt=RuleEntry(
        title="OTTT",
        rule=OTTT,
        requires=UNIFORM,
        exact=Exactness(
            last_layers=1, condition="if states depend on spikes by no gradient (a detached reset; not ALIF, AdLIF)"
        ),
        omits=f"{ABOVE}; paths through spikes",
        memory="S I",
        time="P",
        source="Xiao et al. 2022, arXiv 2210.04195",
        bibtex=_bibtex(
            "xiao2022ottt",
            "inproceedings",
            author="Xiao, Mingqing and Meng, Qingyan and Zhang, Zongpeng and He, Di and Lin, Zhouchen",
            title="Online Training Through Time for Spiking Neural Networks",
            booktitle="Advances in Neural Information Processing Systems",
            year="2022",
            eprint="2210.04195",
            archivePrefix="arXiv",
        ),
        style=Style("#009E73", "P", "-", ".."),
    ),
    sltt=RuleEntry(
        title="SLTT",
        rule=SLTT,
        requires=LAYERS,
        exact=Exactness(condition="no memory in any neuron"),
        omits="all paths through time",
        memory="0",
        time="P",
        source="Meng et al. 2023, arXiv 2302.14311",
        bibtex=_bibtex(
            "meng2023sltt",
            "inproceedings",
            author="Meng, Qingyan and Xiao, Mingqing and Yan, Shen and Wang, Yisen and Lin, Zhouchen and Luo, Zhi-Quan",
            title="Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks",
            booktitle="IEEE/CVF International Conference on Computer Vision",
            year="2023",
            eprint="2302.14311",
            archivePrefix="arXiv",
        ),
        style=Style("#8FD3BE", "X", "--", "oo"),
    ),
    e_prop=RuleEntry(
        title="e-prop",
        rule=EProp,
        requires=f"{LAYERS}, with one decay in the layer above",
        exact=Exactness(
            last_layers=2,
            condition="if feedback is symmetric, the last one integrates and the other is not recurrent (otherwise the last "
            "layer)",
        ),
        omits="paths through time in the layers above, except for one leaky sum, and over late edges",
        memory="(S + 1) P",
        time="S^2 P",
        source="Bellec et al. 2020, doi 10.1038/s41467-020-17236-y",
        bibtex=_bibtex(
            "bellec2020eprop",
            "article",
            author="Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, Darjan and "
            "Legenstein, Robert and Maass, Wolfgang",
            title="A Solution to the Learning Dilemma for Recurrent Networks of Spiking Neurons",
            journal="Nature Communications",
            volume="11",
            year="2020",
            doi="10.1038/s41467-020-17236-y",
        ),
        style=Style("#CC79A7", "p", "-", "**"),
    ),
    pp_prop=RuleEntry(
        title="pp-prop",
        rule=PPProp,
        requires=f"{LAYERS} that defines integrate and fire and has no parameters of its own",
        exact=Exactness(),
        omits=f"{ABOVE}; everything that a product of two traces cannot represent",
        memory="I + S N",
        time="P",
        source="Wang et al. 2024; braintrace",
        bibtex=_bibtex(
            "wang2024braintrace",
            "misc",
            author="Wang, Chaoming and others",
            title="Model-agnostic Linear-memory Online Learning in Spiking Neural Networks",
            year="2024",
        ),
        style=Style("#882255", "*", "--", "|||"),
    ),
    decolle=RuleEntry(
        title="DECOLLE",
        rule=DECOLLE,
        needs_rngs=True,
        requires=UNIFORM,
        exact=Exactness(last_layers=1, steps=0, condition="each layer's own loss, where OTTT is exact for it"),
        omits="all signals from above; paths through spikes",
        memory="S I",
        time="P + N C for C outputs",
        source="Kaiser, Mostafa, Neftci 2020, doi 10.3389/fnins.2020.00424",
        bibtex=_bibtex(
            "kaiser2020decolle",
            "article",
            author="Kaiser, Jacques and Mostafa, Hesham and Neftci, Emre",
            title="Synaptic Plasticity Dynamics for Deep Continuous Local Learning ({DECOLLE})",
            journal="Frontiers in Neuroscience",
            volume="14",
            year="2020",
            doi="10.3389/fnins.2020.00424",
        ),
        style=Style("#C2A500", "H", "-", "OO"),
    ),
    fptt=RuleEntry(
        title="FPTT",
        rule=BPTT,
        optimizer=fptt,
        updates=("online",),
        requires=ANY_CELL,
        exact=Exactness(),
        omits="all paths from one window to the next; a regularizer pulls the parameters of all steps together",
        memory="2 P, once for all samples",
        time="P",
        source="Kag, Saligrama 2021; Yin, Corradi, Bohte 2023, doi 10.1038/s42256-023-00650-4",
        bibtex=_bibtex(
            "kag2021fptt",
            "inproceedings",
            author="Kag, Anil and Saligrama, Venkatesh",
            title="Training Recurrent Neural Networks via Forward Propagation Through Time",
            booktitle="International Conference on Machine Learning",
            year="2021",
        ),
        style=Style("#661100", "8", "--", "---"),
    ),
)
