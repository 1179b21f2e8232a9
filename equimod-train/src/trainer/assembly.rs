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
        let Parts { method, parameters, layout, pairs } =
            Parts::new(&recipe, &policy, dataset.as_ref(), &context, extensions)?;
        let needs = method.needs();
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

/// What a trainer has of a recipe that fits its images and ranks.
struct Parts {
    method: Method,
    parameters: Parameters,
    layout: ParamLayout,
    pairs: Option<ParamLayout>,
}

impl Parts {
    /// Builds the parts, or reports all contradictions together.
    fn new(
        recipe: &Recipe,
        policy: &Policy,
        dataset: &dyn Dataset,
        context: &TrainContext,
        extensions: Extensions,
    ) -> Result<Self> {
        let too_few = recipe.problems_with(dataset.len());
        let with_too_few = |problems: Vec<String>| [problems, too_few].concat();
        let built = Layouts::new(recipe, policy, dataset).and_then(|layouts| {
            let parameters = layouts.parameters(policy);
            Ok((build_method(recipe, &parameters, context, extensions)?, parameters, layouts))
        });
        let (method, parameters, layouts) = match built {
            Err(Error::Recipe(problems)) => return Err(Error::Recipe(with_too_few(problems))),
            Err(Error::Data(equimod_data::Error::Config(problem))) => {
                return Err(Error::Recipe(with_too_few(vec![problem])));
            }
            built => built?,
        };
        let needs = method.needs();
        let mut problems = needs_problems(&needs, recipe, &layouts.view);
        problems.extend(division_problems(&needs, recipe, context.collective.size()));
        let Layouts { view: layout, pairs } = layouts;
        let pairs = match pairs {
            _ if !needs.pairs => None,
            Ok(pairs) => Some(pairs),
            Err(equimod_data::Error::Config(problem)) => {
                problems.push(problem);
                None
            }
            Err(error) => return Err(error.into()),
        };
        match with_too_few(problems) {
            problems if problems.is_empty() => Ok(Self { method, parameters, layout, pairs }),
            problems => Err(Error::Recipe(problems)),
        }
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

/// Contradictions between the needs of the modules and the encoding and batch size.
fn needs_problems(needs: &Needs, recipe: &Recipe, layout: &ParamLayout) -> Vec<String> {
    let mut problems = Vec::new();
    if needs.parameters && layout.encoding == Encoding::Pairwise {
        let text =
            "a module needs the parameters of views; give augmentation.encoding = \"published\" or \"size-normalized\"";
        problems.push(text.into());
    }
    let batch = recipe.data.batch;
    if let Some(chunk) = needs.shared_by.filter(|chunk| !batch.is_multiple_of(*chunk)) {
        problems.push(format!(
            "data.batch is {batch}, but a module shares augmentations {chunk} by {chunk}; give a multiple of {chunk}"
        ));
    }
    problems
}

/// Reasons why `ranks` processes do not get the same number of images in each part of a batch, or share augmentations
/// with each other.
fn division_problems(needs: &Needs, recipe: &Recipe, ranks: usize) -> Vec<String> {
    if ranks == 1 {
        return Vec::new();
    }
    let shuffled = recipe.augmentation.shuffle_parameters;
    let shuffled = shuffled.then(|| {
        format!("augmentation.shuffle_parameters needs a single rank, and there are {ranks}; set it to false")
    });
    let (batch, parts, chunk) = (recipe.data.batch, recipe.execution.parts, needs.shared_by.unwrap_or(1));
    let problem = |whole: usize, what: &str| {
        (!batch.is_multiple_of(whole)).then(|| {
            format!("data.batch is {batch}, but {what}; give a multiple of {whole}, or another number of ranks")
        })
    };
    let problems = [
        problem(
            ranks * parts,
            &match parts {
                1 => format!("{ranks} ranks have equal shares of it"),
                _ => format!("{ranks} ranks each take it in {parts} equal parts"),
            },
        ),
        problem(ranks * chunk, &format!("{ranks} ranks have equal shares, and a module needs {chunk} images together")),
    ];
    shuffled.into_iter().chain(problems.into_iter().flatten().take(1)).collect()
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

/// Standard deviations within which nearly all differences of an unbounded parameter lie.
const BEYOND: f32 = 3.0;

/// Values of the vectors from view to view, for the modules.
fn pair_values(policy: &Policy, layout: &ParamLayout) -> Vec<PairValue> {
    let value = |(value, (&mean, &std)): (ParamValue, (&f32, &f32))| PairValue {
        name: value.name.into(),
        augmentation: value.augmentation.into(),
        mean,
        std,
        reach: match value.largest - value.least {
            bounded if bounded.is_finite() => bounded,
            _ => mean.abs() + BEYOND * std,
        },
        flag: value.unit == FLAG,
    };
    layout.values(policy).into_iter().zip(layout.mean.iter().zip(&layout.std)).map(value).collect()
}

#[cfg(test)]
mod tests {
    use equimod_data::Size;

    use super::*;

    #[test]
    fn parameters_without_bounds_have_a_finite_reach() {
        let policy = Policy::built_in("simclr-cifar10", 32).unwrap();
        // In pixels of an image whose size is not known, crops have no bounds.
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(32)]).unwrap();
        let values = pair_values(&policy, &layout);
        let crop = values.iter().find(|value| value.name == "crop_height").unwrap();
        assert_eq!(crop.reach, crop.mean + 3.0 * crop.std);
        assert!(values.iter().all(|value| value.reach.is_finite() && value.reach > 0.0), "{values:?}");
    }
}
