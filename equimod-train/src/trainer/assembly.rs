//! Assembly of a trainer from a recipe: policy, layouts of parameter vectors, method, loader, optimizer.

use std::sync::Arc;

use candle_core::DType;
use equimod_core::backbone::BackboneBuilder;
use equimod_core::images::makes_views;
use equimod_core::method::ModuleBuilder;
use equimod_core::{Extensions, Method, Needs, PairValue, Parameters, Placement, ViewValue};
use equimod_data::augment::FLAG;
use equimod_data::{Dataset, Encoding, LayoutConfig, Loader, LoaderConfig, ParamLayout, ParamValue, Policy};

use super::{TrainContext, Trainer};
use crate::pending::PendingSteps;
use crate::recipe::{AugmentOn, Recipe};
use crate::speed::Pace;
use crate::{Error, Result};

/// Number of batches made ahead.
const PREFETCH: usize = 2;
/// Largest number of images whose sizes enter the statistics of parameters.
const STATISTICS_IMAGES: usize = 10_000;

impl Trainer {
    /// Assembles a run of `recipe` on `dataset`, at its first step.
    ///
    /// # Errors
    ///
    /// If the recipe contradicts itself or the data set, or the data set cannot be read.
    pub fn new(recipe: Recipe, dataset: Arc<dyn Dataset>, context: TrainContext) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::default())
    }

    /// Like [`new`](Self::new), with the backbone of a recipe that says `kind = "custom"`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if `backbone` fails.
    pub fn with_backbone(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        backbone: BackboneBuilder,
    ) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::backbone(backbone))
    }

    /// Like [`new`](Self::new), with equivariance modules in addition to those of the recipe.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if `modules` fails.
    pub fn with_modules(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        modules: ModuleBuilder,
    ) -> Result<Self> {
        Self::with_extensions(recipe, dataset, context, Extensions::modules(modules))
    }

    /// Like [`new`](Self::new), with parts of the method that the program provides.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if a builder of `extensions` fails.
    pub fn with_extensions(
        recipe: Recipe,
        dataset: Arc<dyn Dataset>,
        context: TrainContext,
        extensions: Extensions,
    ) -> Result<Self> {
        let recipe = Recipe { execution: recipe.execution.on(&context.device), ..recipe };
        let policy = recipe.augmentation.policy()?;
        let layouts = Layouts::new(&recipe, &policy, dataset.as_ref())?;
        let parameters = layouts.parameters(&policy);
        let method = build_method(&recipe, &parameters, &context, extensions)?;
        let needs = method.needs();
        check_needs(&needs, &recipe, &layouts.view)?;
        check_division(&needs, &recipe, context.collective.size())?;
        let layout = layouts.view;
        let pairs = if needs.pairs { Some(layouts.pairs?) } else { None };
        let mut config = loader_config(&needs, &recipe, &policy, pairs.clone(), &context)?;
        let makes_views = makes_views(&context.device, method.compute_dtype());
        config.defer = makes_views && recipe.augmentation.on == AugmentOn::Device;
        let fingerprint = dataset.fingerprint()?;
        let loader = Loader::new(dataset, policy.clone(), layout.clone(), &config)?;
        let optimizer = recipe.optimizer.build();
        let (step, best, skipped, pace) = (0, None, None, Pace::default());
        Ok(Self {
            recipe,
            context,
            method,
            optimizer,
            loader,
            policy,
            layout,
            pairs,
            parameters,
            fingerprint,
            step,
            pending: PendingSteps::default(),
            best,
            skipped,
            pace,
        })
    }
}

/// Layouts of the parameter vectors.
struct Layouts {
    /// Layout of the vectors of views.
    view: ParamLayout,
    /// Layout of the vectors from view to view, or the reason why the policy has none. Only a method that needs them
    /// makes that an error.
    pairs: equimod_data::Result<ParamLayout>,
}

impl Layouts {
    fn new(recipe: &Recipe, policy: &Policy, dataset: &dyn Dataset) -> Result<Self> {
        let (config, sizes) = (recipe.augmentation.layout()?, dataset.sample_sizes(STATISTICS_IMAGES)?);
        let view = ParamLayout::new(policy, &config, &sizes)?;
        let config = LayoutConfig { encoding: Encoding::Pairwise, fields: config.fields, ..LayoutConfig::default() };
        let pairs = ParamLayout::new(policy, &config, &sizes).map(ParamLayout::both_ways);
        Ok(Self { view, pairs })
    }

    /// Names and statistics of the values in both kinds of vectors.
    fn parameters(&self, policy: &Policy) -> Parameters {
        let pair = self.pairs.as_ref().map_or_else(|_| Vec::new(), |layout| pair_values(policy, layout));
        Parameters { view: view_values(policy, &self.view), pair }
    }
}

fn build_method(
    recipe: &Recipe,
    parameters: &Parameters,
    context: &TrainContext,
    extensions: Extensions,
) -> Result<Method> {
    let placement = Placement {
        seed: recipe.seed,
        dtype: DType::F32,
        device: &context.device,
        image_size: recipe.augmentation.size,
        collective: context.collective.clone(),
        execution: recipe.execution,
    };
    Method::with_extensions(&recipe.method(), parameters, placement, extensions).map_err(|error| match error {
        problem if problem.concerns_settings() => Error::Recipe(vec![problem.to_string()]),
        other => other.into(),
    })
}

/// Checks that encoding and batch size suit the modules.
fn check_needs(needs: &Needs, recipe: &Recipe, layout: &ParamLayout) -> Result<()> {
    if needs.parameters && layout.encoding == Encoding::Pairwise {
        let text =
            "a module needs the parameters of views; give augmentation.encoding = \"published\" or \"size-normalized\"";
        return Err(Error::Recipe(vec![text.into()]));
    }
    let batch = recipe.data.batch;
    match needs.shared_by.filter(|chunk| !batch.is_multiple_of(*chunk)) {
        Some(chunk) => Err(Error::Recipe(vec![format!(
            "data.batch is {batch}, but a module shares augmentations {chunk} by {chunk}; give a multiple of {chunk}"
        )])),
        None => Ok(()),
    }
}

/// Checks that every one of `ranks` processes gets the same number of images in each part of a batch, and no process
/// shares augmentations with another.
fn check_division(needs: &Needs, recipe: &Recipe, ranks: usize) -> Result<()> {
    if ranks == 1 {
        return Ok(());
    }
    if recipe.augmentation.shuffle_parameters {
        let text = format!("augmentation.shuffle_parameters needs a single rank, and there are {ranks}");
        return Err(Error::Recipe(vec![text]));
    }
    let (batch, parts, chunk) = (recipe.data.batch, recipe.execution.parts, needs.shared_by.unwrap_or(1));
    let problem = |whole: usize, what: &str| {
        (!batch.is_multiple_of(whole)).then(|| {
            format!("data.batch is {batch}, but {what}; give a multiple of {whole}, or another number of ranks")
        })
    };
    let problems = [
        problem(ranks * parts, &format!("{ranks} ranks each take it in {parts} equal parts")),
        problem(ranks * chunk, &format!("{ranks} ranks have equal shares, and a module needs {chunk} images together")),
    ];
    match problems.into_iter().flatten().next() {
        Some(problem) => Err(Error::Recipe(vec![problem])),
        None => Ok(()),
    }
}

fn loader_config(
    needs: &Needs,
    recipe: &Recipe,
    policy: &Policy,
    pairs: Option<ParamLayout>,
    context: &TrainContext,
) -> Result<LoaderConfig> {
    let small = needs.small.map(|small| policy.views[0].with_crop(small.size, small.scale)).transpose()?;
    Ok(LoaderConfig {
        seed: recipe.seed,
        batch: recipe.data.batch,
        clean: needs.clean_view,
        params: needs.parameters,
        pairs,
        small,
        shared_by: needs.shared_by,
        threads: context.loader_threads,
        prefetch: PREFETCH,
        process: (context.collective.rank(), context.collective.size()),
        window: Some(recipe.data.shuffle_window).filter(|&window| window > 0),
        skip_share: recipe.data.skip_share,
        ..LoaderConfig::default()
    })
}

/// Values of the vectors of views, for the modules.
fn view_values(policy: &Policy, layout: &ParamLayout) -> Vec<ViewValue> {
    let value = |(value, (&mean, &std)): (ParamValue, (&f32, &f32))| ViewValue {
        name: value.name.into(),
        augmentation: value.augmentation.into(),
        mean,
        std,
        flag: value.unit == FLAG,
    };
    layout.values(policy).into_iter().zip(layout.mean.iter().zip(&layout.std)).map(value).collect()
}

/// Values of the vectors from view to view, for the modules.
fn pair_values(policy: &Policy, layout: &ParamLayout) -> Vec<PairValue> {
    let value = |(value, (&mean, &std)): (ParamValue, (&f32, &f32))| PairValue {
        name: value.name.into(),
        augmentation: value.augmentation.into(),
        mean,
        std,
        reach: value.largest - value.least,
        flag: value.unit == FLAG,
    };
    layout.values(policy).into_iter().zip(layout.mean.iter().zip(&layout.std)).map(value).collect()
}
