//! SimCLR + EquiMod and BYOL + EquiMod against the reference: outputs, losses, gradients, and five optimizer steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{DType, Device, Shape, Tensor};
use common::{Golden, device, files, fill, filled_state, values};
use equimod_core::collective::SingleProcess;
use equimod_core::equivariance::{
    Embeddings, EquiMod, EquiModConfig, Equivariance, EquivarianceConfig, PredictorSpec, equivariance_rows,
};
use equimod_core::objective::{Byol, ByolConfig, ByolEmbeddings, SimClr, SimClrConfig, swapped};
use equimod_core::optim::{Lars, LarsConfig, Optimizer, TargetMomentum};
use equimod_core::{
    Backbone, BackboneConfig, BuildContext, Execution, Method, MethodConfig, Mode, ObjectiveConfig, ParamStore,
    Parameters, Placement, Progress, ResNet, ResNetConfig, StepBatch, StepContext, TargetConfig,
};

/// Parameter names of the reference with those of this crate.
const PARTS: [(&str, &str); 6] = [
    ("resnet.", "backbone."),
    ("proj_head_inv.", "objective.projection_head."),
    ("predictor_inv.", "objective.predictor."),
    ("proj_head_eq.", "equivariance.equimod.projection_head."),
    ("proj_head_t.", "equivariance.equimod.parameter_head."),
    ("predictor_eq.", "equivariance.equimod.predictor."),
];

fn ours(name: &str) -> String {
    let (theirs, ours) = PARTS.iter().find(|(theirs, _)| name.starts_with(theirs)).unwrap();
    name.replacen(theirs, ours, 1)
}

fn theirs(name: &str) -> String {
    let (theirs, ours) = PARTS.iter().find(|(_, ours)| name.starts_with(ours)).unwrap();
    name.replacen(ours, theirs, 1)
}

/// A head from the reference's `arch` such as "32-24-16", without its input width, with this crate's word for the
/// ending; "(bias)" overrides it.
fn head(arch: &serde_json::Value, key: &str, ending: &str) -> equimod_core::HeadSpec {
    let text = arch[key].as_str().unwrap();
    let (_, widths) = text.split_once('-').unwrap();
    match widths.strip_suffix("(bias)") {
        Some(widths) => format!("{widths} bias").parse().unwrap(),
        None => format!("{widths}{ending}").parse().unwrap(),
    }
}

/// Element type and execution settings of a run.
#[derive(Clone, Copy)]
struct Precision {
    dtype: DType,
    execution: Execution,
}

const fn execution(recompute: bool, winograd: bool) -> Execution {
    Execution { recompute, winograd, ..Execution::DEFAULT }
}

const F64: Precision = Precision { dtype: DType::F64, execution: execution(false, false) };
const DIRECT: Precision = Precision { dtype: DType::F32, ..F64 };
const WINOGRAD: Precision = Precision { dtype: DType::F32, execution: execution(false, true) };
const RECOMPUTED: Precision = Precision { dtype: DType::F32, execution: execution(true, true) };

struct Settings {
    method: MethodConfig,
    parameters: Parameters,
}

impl Settings {
    /// Settings of a trajectory file.
    fn of_steps(golden: &Golden) -> Self {
        let (arch, conf) = (golden.meta_json("arch"), golden.meta_json("conf"));
        let number = |key: &str| conf[key].as_f64().unwrap();
        let projection_head = head(&arch, "proj_head_inv", " bn-");
        let objective = match is_byol(golden) {
            true => ObjectiveConfig::Byol(ByolConfig {
                projection_head,
                predictor: head(&arch, "predictor_inv", ""),
                target: TargetConfig { momentum: number("tau_base"), ..Default::default() },
                ..Default::default()
            }),
            false => ObjectiveConfig::SimClr(SimClrConfig {
                temperature: number("t_z"),
                projection_head,
                ..Default::default()
            }),
        };
        let equimod = EquiModConfig {
            weight: equimod_core::optim::Weight::Fixed(number("lmbd")),
            temperature: number("t_y"),
            projection_head: head(&arch, "proj_head_eq", " bn-"),
            parameter_head: head(&arch, "proj_head_t", " bn"),
            predictor: PredictorSpec::Head(head(&arch, "predictor_eq", " bn-")),
            ..Default::default()
        };
        let width = arch["base_width"].as_u64().unwrap() as usize;
        Self::new(width, objective, equimod, arch["p_dim"].as_u64().unwrap() as usize)
    }

    fn new(width: usize, objective: ObjectiveConfig, equimod: EquiModConfig, parameters: usize) -> Self {
        let backbone = ResNetConfig { width, ..Default::default() };
        let equivariance = EquivarianceConfig { equimod: Some(equimod), ..Default::default() };
        Self {
            method: MethodConfig { backbone: BackboneConfig::ResNet(backbone), objective, equivariance },
            parameters: Parameters::of_views(parameters),
        }
    }

    fn build(
        &self,
        Precision { dtype, execution }: Precision,
        state: impl Fn(&str, &Shape) -> Option<Tensor>,
    ) -> Built {
        let placement = || Placement {
            seed: 0,
            dtype,
            device: device(dtype),
            image_size: 32,
            collective: SingleProcess::shared(),
            execution,
        };
        let method = Method::new(&self.method, &self.parameters, placement()).unwrap();
        // The target network starts as a copy.
        let stores = [Some(method.params()), method.target().map(|target| target.params())];
        for (name, slot) in stores.into_iter().flatten().flat_map(ParamStore::iter) {
            match state(&theirs(name), slot.var.shape()) {
                Some(tensor) => {
                    let tensor = tensor.to_dtype(slot.var.dtype()).unwrap().to_device(slot.var.device()).unwrap();
                    slot.var.set(&tensor).unwrap();
                }
                None => assert!(name.ends_with("num_batches_tracked"), "{name} is not in the reference"),
            }
        }
        Built { method, settings: self.method.clone(), parameters: self.parameters.clone(), dtype, execution }
    }
}

fn is_byol(golden: &Golden) -> bool {
    golden.metadata.get("kind").is_some_and(|kind| kind == "byol")
}

struct Built {
    method: Method,
    settings: MethodConfig,
    parameters: Parameters,
    dtype: DType,
    execution: Execution,
}

struct Outputs {
    h: Tensor,
    z: Tensor,
    q: Option<Tensor>,
    embeddings: Embeddings,
}

impl Built {
    /// Features and embeddings of a batch from a second copy of the parts with the same values, so that the method
    /// under test is unchanged.
    fn outputs(&self, batch: &StepBatch, mode: Mode) -> Outputs {
        let mut store = ParamStore::new(0, self.dtype, device(self.dtype));
        let collective = SingleProcess::shared();
        let BackboneConfig::ResNet(config) = &self.settings.backbone else { panic!("{:?}", self.settings.backbone) };
        let net = ResNet::new(config, self.execution, &collective, &mut store.root().scope("backbone")).unwrap();
        let context = BuildContext {
            features: net.features(),
            stages: &[],
            parameters: &self.parameters,
            collective: &collective,
            condition: None,
        };
        let objective = Embedder::new(&self.settings.objective, &context, &mut store);
        let equimod = self.settings.equivariance.equimod.as_ref().unwrap();
        let mut root = store.root();
        let mut scope = root.scope("equivariance");
        let equimod = EquiMod::new(equimod, &context, &mut scope.scope("equimod")).unwrap();
        for (name, slot) in store.iter() {
            slot.var.set(self.method.params().get(name).unwrap().var.as_tensor()).unwrap();
        }
        let h = match mode {
            Mode::Eval => net.infer(&batch.images().unwrap(), mode).unwrap().pooled,
            _ => net.forward(&batch.images().unwrap(), mode).unwrap().0.pooled,
        };
        let params = batch.params.as_ref();
        let step = StepContext { params, ..StepContext::of_features(&h, true, mode, &collective) };
        let (z, q) = objective.embed(&step);
        let embeddings = equimod.embeddings(&step).unwrap();
        Outputs { z, q, embeddings, h: h.clone() }
    }
}

/// Embeddings of the objective.
enum Embedder {
    SimClr(SimClr),
    Byol(Byol),
}

impl Embedder {
    fn new(config: &ObjectiveConfig, context: &BuildContext, store: &mut ParamStore) -> Self {
        let mut root = store.root();
        let mut scope = root.scope("objective");
        match config {
            ObjectiveConfig::SimClr(config) => Self::SimClr(SimClr::new(config, context, &mut scope).unwrap()),
            ObjectiveConfig::Byol(config) => Self::Byol(Byol::new(config, context, &mut scope).unwrap()),
            other => panic!("the reference has no {other:?}"),
        }
    }

    /// Embeddings z, and predictions q if there is a predictor.
    fn embed(&self, step: &StepContext) -> (Tensor, Option<Tensor>) {
        match self {
            Self::SimClr(simclr) => (simclr.embed(&step.view_features().unwrap(), step.mode).unwrap(), None),
            Self::Byol(byol) => {
                let ByolEmbeddings { embedded, predicted } = byol.embeddings(step).unwrap();
                (embedded, Some(predicted))
            }
        }
    }
}

fn scalar(value: f64, dtype: DType) -> Tensor {
    Tensor::new(&[value], &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn check_outputs(golden: &Golden, prefix: &str, outputs: &Outputs) {
    let Outputs { h, z, q, embeddings } = outputs;
    let Embeddings { start, views, predicted } = embeddings;
    let named = [("h", h), ("z", z), ("y0", start), ("yt", views), ("yt_hat", predicted)];
    for (name, tensor) in named.into_iter().chain(q.as_ref().map(|q| ("q", q))) {
        let name = format!("{prefix}{name}");
        if golden.has(&name) {
            golden.check(&name, tensor);
        }
    }
}

/// Steps of a trajectory file.
struct Trajectory {
    golden: Golden,
    built: Built,
    optimizer: Lars,
    rates: Vec<f64>,
    /// Number of steps of the whole run, on which the target network's momentum depends.
    total: u64,
}

impl Trajectory {
    fn new(file: &str, precision: Precision) -> Self {
        let golden = Golden::open(file).unwrap();
        let initial = |name: &str, _: &Shape| golden.tensors.get(&format!("init/{name}")).cloned();
        let built = Settings::of_steps(&golden).build(precision, initial);
        let conf = golden.meta_json("conf");
        let number = |key: &str| conf[key].as_f64().unwrap();
        let config = LarsConfig { weight_decay: number("wd"), trust_coefficient: number("eta"), ..Default::default() };
        let rates = conf["lrs"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let total = conf["total_step"].as_u64().unwrap_or(1);
        Self { golden, built, optimizer: Lars::new(config), rates, total }
    }

    fn batch(&self, step: usize) -> StepBatch {
        let dtype = self.built.dtype;
        let stored = |name: &str| self.golden.get(&format!("step{step}/{name}"));
        let get = |name: &str| stored(name).to_dtype(dtype).unwrap().to_device(device(dtype)).unwrap();
        let (clean, params) = (Some(get("img0")), Some(get("params_norm")));
        StepBatch { clean, params, ..StepBatch::of_views([get("img1"), get("img2")]) }
    }

    /// Takes a step; `look` receives its outcome before the update.
    fn advance(&mut self, step: usize, look: impl FnOnce(&Self, &equimod_core::StepOutcome)) {
        let progress = Progress { step: step as u64, total: self.total };
        let mut outcome = self.built.method.step(&self.batch(step), progress).unwrap();
        look(self, &outcome);
        self.optimizer.step(self.built.method.params(), &mut outcome.gradients, self.rates[step]).unwrap();
    }
}

fn check_trajectory(file: &str, precision: Precision) {
    let dtype = precision.dtype;
    let mut trajectory = Trajectory::new(file, precision);
    let names = trajectory.golden.meta_list("param_names");
    let initial = trajectory.built.method.params().deep_copy().unwrap();
    for step in 0..trajectory.rates.len() {
        let prefix = format!("step{step}/");
        let outputs = trajectory.built.outputs(&trajectory.batch(step), Mode::Train);
        check_outputs(&trajectory.golden, &prefix, &outputs);
        trajectory.advance(step, |trajectory, outcome| {
            check_step(&trajectory.golden, &prefix, &outputs, outcome, &names, dtype);
        });
        check_state(&trajectory.golden, step + 1, &trajectory.built.method, &initial, &names, dtype);
    }
    let outputs = trajectory.built.outputs(&trajectory.batch(0), Mode::Eval);
    check_outputs(&trajectory.golden, "eval_after5/", &outputs);
}

/// Compares losses, measures and gradients before the update.
fn check_step(
    golden: &Golden,
    prefix: &str,
    outputs: &Outputs,
    outcome: &equimod_core::StepOutcome,
    names: &[String],
    dtype: DType,
) {
    let Embeddings { start, views, predicted } = &outputs.embeddings;
    let measured = Equivariance::of(&equivariance_rows(start, views, predicted).unwrap());
    let read = outcome.read().unwrap();
    let metric = |name: &str| read.metric(name).unwrap();
    assert!((metric("equimod.absolute_equivariance") - measured.absolute).abs() < 1e-9);
    for (name, value) in [
        ("loss", read.loss),
        ("loss_z", metric("invariance_loss")),
        ("loss_eq_y", metric("equimod.loss")),
        ("eqgain", measured.absolute),
        ("eqgain_bis", measured.relative),
    ] {
        golden.check(&format!("{prefix}{name}"), &scalar(value, dtype));
    }
    if golden.has(&format!("{prefix}tau")) {
        golden.check(&format!("{prefix}tau"), &scalar(metric("target_momentum"), dtype));
    }
    let mut norms = Vec::new();
    for name in names {
        let gradient = outcome.gradients.get(&ours(name)).unwrap_or_else(|| panic!("no gradient of {name}"));
        let stored = format!("{prefix}grad/{name}");
        if golden.has(&stored) && dtype == DType::F32 {
            golden.check_f32(&stored, gradient);
        }
        norms.push(values(gradient).iter().map(|g| g * g).sum::<f64>().sqrt());
    }
    golden.check(&format!("{prefix}grad_norms"), &Tensor::new(norms, &Device::Cpu).unwrap().to_dtype(dtype).unwrap());
}

/// Compares weights and running statistics after `step` updates, and the change of each weight.
fn check_state(
    golden: &Golden,
    step: usize,
    method: &Method,
    initial: &std::collections::BTreeMap<String, Tensor>,
    names: &[String],
    dtype: DType,
) {
    for (name, slot) in method.params().iter().filter(|(n, _)| !n.ends_with("num_batches_tracked")) {
        let stored = format!("after{step}/{}", theirs(name));
        if golden.has(&stored) && dtype == DType::F32 {
            golden.check_f32(&stored, slot.var.as_tensor());
        }
    }
    for (name, slot) in method.target().iter().flat_map(|target| target.params().iter()) {
        let stored = format!("after{step}_momentum/m_{}", theirs(name));
        if golden.has(&stored) && dtype == DType::F32 {
            golden.check_f32(&stored, slot.var.as_tensor());
        }
    }
    let stored = format!("after{step}_update_norms");
    if golden.has(&stored) {
        let moved = names.iter().map(|name| {
            let name = ours(name);
            let (now, then) = (values(method.params().get(&name).unwrap().var.as_tensor()), values(&initial[&name]));
            now.iter().zip(&then).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
        });
        let moved: Vec<f64> = moved.collect();
        golden.check(&stored, &Tensor::new(moved, &Device::Cpu).unwrap().to_dtype(dtype).unwrap());
    }
}

/// The target network's embeddings of the views; its running statistics are restored afterwards.
fn check_target(golden: &Golden, prefix: &str, method: &Method, batch: &StepBatch) {
    let Some(target) = method.target() else { return };
    let before = target.params().deep_copy().unwrap();
    let made = target.forward(batch, 1).unwrap();
    golden.check(&format!("{prefix}m_z"), &swapped(made.get("objective.projection_head").unwrap()).unwrap());
    for (name, slot) in target.params().iter() {
        slot.var.set(&before[name]).unwrap();
    }
}

/// The full-size model, with weights from the fill rule.
fn check_full(file: &str, precision: Precision) {
    let dtype = precision.dtype;
    let golden = Golden::open(file).unwrap();
    let temperature = |key: &str| golden.meta(key).parse().unwrap();
    let objective = match is_byol(&golden) {
        // Before the first step, the target network is a copy.
        true => ObjectiveConfig::Byol(ByolConfig {
            target: TargetConfig { momentum: 1.0, schedule: TargetMomentum::Constant, ..Default::default() },
            ..Default::default()
        }),
        false => {
            let temperature = temperature("temperature_z");
            ObjectiveConfig::SimClr(SimClrConfig { temperature, ..Default::default() })
        }
    };
    let weight = golden.meta("lmbd").parse().unwrap();
    let equimod = EquiModConfig { weight, temperature: temperature("temperature_y"), ..Default::default() };
    let (input_shape, input_scale) = fill_call(golden.meta("input"));
    let (params_shape, params_scale) = fill_call(golden.meta("params"));
    let settings = Settings::new(64, objective, equimod, params_shape[1]);
    let seed = golden.meta("fill_seed").parse().unwrap();
    let built = settings.build(precision, |name, shape| Some(filled_state(name, shape, seed, false)));
    let filled = |name: &str, shape: &[usize], scale: f64| {
        fill(name, shape, scale, 0.0, seed).to_dtype(dtype).unwrap().to_device(device(dtype)).unwrap()
    };
    let images = filled("input", &input_shape, input_scale);
    let params = filled("params", &params_shape, params_scale);
    let third = input_shape[0] / 3;
    let part = |i: usize| images.narrow(0, i * third, third).unwrap();
    let batch = StepBatch { clean: Some(part(0)), params: Some(params), ..StepBatch::of_views([part(1), part(2)]) };
    check_outputs(&golden, "", &built.outputs(&batch, Mode::Train));
    check_target(&golden, "", &built.method, &batch);
    let outcome = built.method.step(&batch, Progress::ONLY).unwrap();
    let read = outcome.read().unwrap();
    let metric = |name: &str| read.metric(name).unwrap();
    let losses = [("loss", read.loss), ("loss_z", metric("invariance_loss")), ("loss_eq_y", metric("equimod.loss"))];
    for (name, value) in losses.into_iter().filter(|(name, _)| golden.has(name)) {
        golden.check(name, &scalar(value, dtype));
    }
    let (mut norms, mut probes) = (Vec::new(), Vec::new());
    for name in golden.meta_list("param_names") {
        let gradient = outcome.gradients.get(&ours(&name)).unwrap();
        let probe = values(&fill(&format!("{name}.probe"), gradient.shape(), 1.0, 0.0, seed));
        let gradient = values(gradient);
        norms.push(gradient.iter().map(|g| g * g).sum::<f64>().sqrt());
        probes.push(gradient.iter().zip(&probe).map(|(g, p)| g * p).sum::<f64>());
    }
    for (name, got) in [("grad_norms", norms), ("grad_probes", probes)] {
        golden.check(name, &Tensor::new(got, &Device::Cpu).unwrap().to_dtype(dtype).unwrap());
    }
}

/// Shape and scale of a text such as `fill('input',[12,3,32,32],scale 2)`.
fn fill_call(text: &str) -> (Vec<usize>, f64) {
    let (start, end) = (text.find('[').unwrap(), text.find(']').unwrap());
    let shape = serde_json::from_str(&text[start..=end]).unwrap();
    let scale = text[end..].trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    (shape, scale)
}

fn each(part: &str, check: impl Fn(&str)) {
    for file in files("equimod_", ".safetensors").iter().filter(|f| f.contains(part)) {
        check(file);
    }
}

#[test]
fn golden_five_steps_in_f32() {
    each("_step", |file| check_trajectory(file, DIRECT));
}

#[test]
fn golden_five_steps_in_f32_by_winograd() {
    each("_step", |file| check_trajectory(file, WINOGRAD));
}

#[test]
fn golden_five_steps_in_f32_computed_twice() {
    each("_step", |file| check_trajectory(file, RECOMPUTED));
}

#[test]
fn golden_five_steps_in_f64() {
    each("_step", |file| check_trajectory(file, F64));
}

#[test]
fn golden_full_model_in_f32() {
    each("_full_", |file| check_full(file, DIRECT));
}

#[test]
fn golden_full_model_in_f32_by_winograd() {
    each("_full_", |file| check_full(file, WINOGRAD));
}

#[test]
fn golden_full_model_in_f64() {
    each("_full_", |file| check_full(file, F64));
}

/// The method after all steps of a trajectory.
fn trained(file: &str, precision: Precision) -> Method {
    let mut trajectory = Trajectory::new(file, precision);
    (0..trajectory.rates.len()).for_each(|step| trajectory.advance(step, |_, _| {}));
    trajectory.built.method
}

/// Changes of each 3×3 layer's weights over the steps.
fn moved(file: &str, precision: Precision) -> Vec<Vec<f64>> {
    let initial = Trajectory::new(file, precision).built.method.params().deep_copy().unwrap();
    let method = trained(file, precision);
    let weights = method.params().iter().filter(|(_, slot)| slot.var.dims().ends_with(&[3, 3]));
    let moved = |(name, slot): (&str, &equimod_core::params::Slot)| {
        let (now, then) = (values(slot.var.as_tensor()), values(&initial[name]));
        now.iter().zip(&then).map(|(a, b)| a - b).collect()
    };
    weights.map(moved).collect()
}

/// Changes of each layer after five steps, in f32 against f64, as relative L2 errors with the bounds in
/// docs/architecture.md.
#[test]
fn five_steps_by_winograd_stay_close_to_f64() {
    each("_step", |file| {
        let exact = moved(file, F64);
        for (name, precision, bound) in [("direct", DIRECT, 2e-3), ("winograd", WINOGRAD, 2e-3)] {
            let found = moved(file, precision);
            let worst = found.iter().zip(&exact).map(|(a, b)| common::distances(a, b).1).fold(0.0, f64::max);
            println!("{file}, {name}: {worst:.1e}");
            assert!(worst < bound, "{file}, {name}: {worst:e}");
        }
    });
}

/// Activation checkpointing recomputes activations bitwise equally, and updates running statistics once.
#[test]
fn what_is_computed_again_is_the_same() {
    each("_step", |file| {
        let (kept, recomputed) = (trained(file, WINOGRAD), trained(file, RECOMPUTED));
        let mut buffers = 0;
        for (name, slot) in kept.params().iter() {
            let other = recomputed.params().get(name).unwrap();
            assert_eq!(values(slot.var.as_tensor()), values(other.var.as_tensor()), "{name}");
            buffers += usize::from(name.contains("running_"));
        }
        assert!(buffers > 0);
    });
}
