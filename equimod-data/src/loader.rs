//! Batches in order, made by several threads a limited number ahead.
//!
//! Batch k of epoch e depends only on (seed, e, k): threads determine when a piece of a batch is made, but not its
//! content.

mod deferred;
mod pieces;
mod pixels;
mod queue;
mod skipped;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use deferred::{Deferred, PlannedView, PlannedViews};
pub use pieces::Batch;
pub use pixels::Pixels;
pub use skipped::{SKIP_SHARE, Skipped};

use crate::dataset::Dataset;
use crate::encoding::ParamLayout;
use crate::image::{Image, Size};
use crate::policy::{Policy, ViewParams, ViewPolicy, clean_plan, clean_view};
use crate::random::{Rng, shared_rng, view_rng};
use crate::sampler::Sampler;
use crate::{Error, Result};
use pieces::join;
use queue::{Queue, Task};
use skipped::SkippedList;

/// Number of images that a thread processes at a time.
const PIECE: usize = 16;

/// Settings of a loader.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Seed of order and augmentations.
    pub seed: u64,
    /// Images per global batch.
    pub batch: usize,
    /// Whether batches include the original (un-augmented) images.
    pub clean: bool,
    /// Whether batches include the parameter vectors of views.
    pub params: bool,
    /// Layout of the pairwise vectors between the first two views; `None` if batches do not include them.
    pub pairs: Option<ParamLayout>,
    /// Policy of one additional view, separate from the others and without parameters.
    pub small: Option<ViewPolicy>,
    /// Number of threads that decode and augment; it does not affect results.
    pub threads: usize,
    /// Number of batches made ahead.
    pub prefetch: usize,
    /// Whether an epoch ends with a smaller batch of the remaining images.
    pub keep_remainder: bool,
    /// Rank of this process, from 0, and number of processes.
    pub process: (usize, usize),
    /// Number of consecutive images of the global batch that share one draw of the augmentations (CARE); `None` for one
    /// draw per image.
    pub shared_by: Option<usize>,
    /// Number of samples within which the order is random; `None` for all.
    pub window: Option<usize>,
    /// Largest share of the data set that may fail to decode.
    pub skip_share: f64,
    /// Whether batches include original images and plans instead of views, which a device then makes.
    pub defer: bool,
}

impl Default for LoaderConfig {
    /// Batches of one image, made by one thread; remainders are dropped, one process, one draw per image.
    fn default() -> Self {
        Self {
            seed: 0,
            batch: 1,
            clean: false,
            params: true,
            pairs: None,
            small: None,
            threads: 1,
            prefetch: 2,
            keep_remainder: false,
            process: (0, 1),
            shared_by: None,
            window: None,
            skip_share: SKIP_SHARE,
            defer: false,
        }
    }
}

/// A source of batches.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Source>,
    threads: usize,
    prefetch: usize,
}

/// Policy and parameters of the small view, if there is one.
type Small<'a> = Option<(&'a ViewPolicy, ViewParams)>;

struct Source {
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    layout: ParamLayout,
    sampler: Sampler,
    clean: bool,
    params: bool,
    pairs: Option<ParamLayout>,
    small: Option<ViewPolicy>,
    shared_by: Option<usize>,
    skipped: SkippedList,
    defer: bool,
    orders: Mutex<VecDeque<(u64, Arc<Vec<usize>>)>>,
}

/// Number of epochs whose order is cached; threads work on two at the end of an epoch.
const CACHED_ORDERS: usize = 2;

impl Loader {
    /// Creates a loader over `dataset`.
    ///
    /// # Errors
    ///
    /// If the policy or the settings are not valid, or the data set does not fill one batch.
    pub fn new(dataset: Arc<dyn Dataset>, policy: Policy, layout: ParamLayout, config: &LoaderConfig) -> Result<Self> {
        policy.check()?;
        if config.defer {
            policy.check_plannable()?;
        }
        let (rank, ranks) = config.process;
        if rank >= ranks {
            return Err(Error::Config(format!("there is no process {rank} of {ranks}; ranks start at 0")));
        }
        let sampler = Sampler {
            seed: config.seed,
            samples: dataset.len(),
            batch: config.batch,
            keep_remainder: config.keep_remainder,
            rank,
            ranks,
            window: config.window,
        };
        if sampler.batches() == 0 {
            let text =
                format!("its {} images do not fill a batch of {}; use a smaller batch", dataset.len(), config.batch);
            return Err(Error::data_set(dataset.name(), text));
        }
        let skipped = SkippedList::new(dataset.as_ref(), config.skip_share)?;
        let (clean, params, shared_by) = (config.clean, config.params, config.shared_by.filter(|&chunk| chunk > 0));
        let (pairs, small, defer, orders) =
            (config.pairs.clone(), config.small.clone(), config.defer, Mutex::default());
        let source =
            Source { dataset, policy, layout, sampler, clean, params, pairs, small, shared_by, skipped, defer, orders };
        let shared = Arc::new(source);
        Ok(Self { shared, threads: config.threads.max(1), prefetch: config.prefetch.max(1) })
    }

    /// Data set of the images.
    pub fn dataset(&self) -> &dyn Dataset {
        self.shared.dataset.as_ref()
    }

    /// Number of batches per epoch.
    pub fn batches(&self) -> usize {
        self.shared.sampler.batches()
    }

    /// Makes batch `index` of epoch `epoch` in the calling thread.
    ///
    /// # Errors
    ///
    /// If there is no such batch, or too many images do not decode.
    pub fn batch(&self, epoch: u64, index: usize) -> Result<Batch> {
        if index >= self.batches() {
            let text = format!("an epoch has {} batches, there is no batch {index}", self.batches());
            return Err(Error::data_set(self.shared.dataset.name(), text));
        }
        self.shared.piece(epoch, index, self.shared.sampler.share(index), None)
    }

    /// Makes the global batch `number`, counted over all epochs, in the calling thread: the shares of all processes.
    ///
    /// # Errors
    ///
    /// If too many images do not decode.
    pub fn whole_batch(&self, number: u64) -> Result<Batch> {
        let batches = self.batches() as u64;
        let (epoch, index) = (number / batches, (number % batches) as usize);
        let range = Sampler { rank: 0, ranks: 1, ..self.shared.sampler }.share(index);
        self.shared.piece(epoch, index, range, None)
    }

    /// Counts images that did not decode on another process.
    ///
    /// # Errors
    ///
    /// If together with those of this process they are too many.
    pub fn count_skipped(&self, skipped: &[Skipped]) -> Result<()> {
        skipped.iter().try_for_each(|image| self.shared.skipped.count(image))
    }

    /// Starts the threads, and returns batches from batch `first` on, counted over all epochs from 0, without an end.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(&self, first: u64) -> Result<Batches> {
        let queue = Arc::new(Queue::new(first, self.prefetch as u64));
        let mut batches = Batches { queue, workers: Vec::new(), next: first, waited: Duration::ZERO, spare: None };
        for number in 0..self.threads {
            let (queue, source) = (batches.queue.clone(), self.shared.clone());
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            let worker = thread.spawn(move || work(&queue, &source));
            batches.workers.push(worker.map_err(|e| Error::Config(format!("cannot start a loader thread: {e}")))?);
        }
        Ok(batches)
    }
}

impl Source {
    /// Order of an epoch, computed once.
    fn order(&self, epoch: u64) -> Arc<Vec<usize>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(known, _)| *known == epoch) {
            return order.clone();
        }
        let order = Arc::new(self.sampler.order(epoch));
        orders.truncate(CACHED_ORDERS - 1);
        orders.push_front((epoch, order.clone()));
        order
    }

    /// Makes the piece of batch `index` at `range` in the order of the epoch.
    fn piece(&self, epoch: u64, index: usize, range: Range<usize>, spare: Option<Batch>) -> Result<Batch> {
        let _piece = tracing::trace_span!("make a piece of a batch", epoch, batch = index).entered();
        let order = self.order(epoch);
        let mut batch = spare.unwrap_or_else(|| self.empty(range.len()));
        (batch.epoch, batch.index) = (epoch, index);
        batch.clear();
        for place in range {
            let sample = order[place];
            let skipped = &mut batch.skipped;
            let (used, image) = self.skipped.image(self.dataset.as_ref(), self.sampler.seed, epoch, sample, skipped)?;
            batch.indices.push(used);
            let rng = |view: usize| self.rng(epoch, index, place, sample, view as u64);
            let views = self.policy.views.iter().enumerate();
            let drawn: Vec<ViewParams> =
                views.map(|(number, view)| view.sample(image.size(), &mut rng(number))).collect();
            if self.params {
                self.layout.encode_views(&self.policy, &drawn, image.size(), &mut batch.params);
            }
            if let Some(layout) = &self.pairs {
                for (direction, out) in [(0, 1), (1, 0)].into_iter().zip(&mut batch.pairs) {
                    layout.encode_pair(&self.policy, &drawn, image.size(), direction, out);
                }
            }
            let small = self.small.as_ref();
            let small = small.map(|view| (view, view.sample(image.size(), &mut rng(self.policy.views.len()))));
            match self.defer {
                true => self.plan_images(&image, &drawn, small, &mut batch)?,
                false => self.make_images(&image, &drawn, small, &mut batch)?,
            }
        }
        batch.params.iter_mut().for_each(|values| self.layout.normalize(values));
        if let Some(layout) = &self.pairs {
            batch.pairs.iter_mut().for_each(|values| layout.normalize(values));
        }
        Ok(batch)
    }

    /// Adds the clean image and the views of an image to a batch.
    fn make_images(&self, image: &Image, drawn: &[ViewParams], small: Small, batch: &mut Batch) -> Result<()> {
        if let Some(clean) = &mut batch.clean {
            clean.push(&clean_view(image, &self.policy.clean))?;
        }
        for ((view, params), pixels) in self.policy.views.iter().zip(drawn).zip(&mut batch.views) {
            pixels.push(&view.apply(image, params))?;
        }
        match (small, &mut batch.small) {
            (Some((view, params)), Some(pixels)) => pixels.push(&view.apply(image, &params)),
            _ => Ok(()),
        }
    }

    /// Adds an image, and the plans of its clean image and its views, to a batch.
    fn plan_images(&self, image: &Image, drawn: &[ViewParams], small: Small, batch: &mut Batch) -> Result<()> {
        let Some(deferred) = &mut batch.deferred else { return Ok(()) };
        let (size, original) = (image.size(), deferred.push(image));
        if let Some(clean) = &mut deferred.clean {
            clean.push(original, clean_plan(size, &self.policy.clean)?)?;
        }
        for ((view, params), planned) in self.policy.views.iter().zip(drawn).zip(&mut deferred.views) {
            planned.push(original, view.plan(params, size)?)?;
        }
        match (small, &mut deferred.small) {
            (Some((view, params)), Some(planned)) => planned.push(original, view.plan(&params, size)?),
            _ => Ok(()),
        }
    }

    /// An empty batch with capacity for `capacity` images.
    fn empty(&self, capacity: usize) -> Batch {
        let pixels = |size: Size| Pixels::empty(size, if self.defer { 0 } else { capacity });
        let vectors = |layout: &ParamLayout, count: usize| {
            let vector = Vec::with_capacity(capacity * layout.width());
            vec![vector; count]
        };
        let side = self.policy.size();
        let (clean, views) = (self.clean.then(|| Size::square(side)), self.policy.view_sizes());
        let small = self.small.as_ref().map(|view| view.output_size(side));
        let planned = || Deferred {
            clean: clean.map(PlannedViews::empty),
            views: views.iter().copied().map(PlannedViews::empty).collect(),
            small: small.map(PlannedViews::empty),
            ..Deferred::default()
        };
        Batch {
            epoch: 0,
            index: 0,
            deferred: self.defer.then(planned),
            clean: clean.map(pixels),
            views: views.into_iter().map(pixels).collect(),
            small: small.map(pixels),
            params: vectors(&self.layout, if self.params { self.layout.vectors(&self.policy) } else { 0 }),
            pairs: self.pairs.as_ref().map_or_else(Vec::new, |layout| vectors(layout, 2)),
            indices: Vec::with_capacity(capacity),
            skipped: Vec::new(),
        }
    }

    /// Generator of a view of the sample at `place` in the order of the epoch.
    fn rng(&self, epoch: u64, index: usize, place: usize, sample: usize, view: u64) -> Rng {
        let seed = self.sampler.seed;
        match self.shared_by {
            None => view_rng(seed, epoch, sample as u64, view),
            Some(chunk) => {
                let chunk = (place - index * self.sampler.batch) / chunk;
                shared_rng(seed, epoch, index as u64, chunk as u64, view)
            }
        }
    }

    /// Ranges of batch `index` that are the units of work of a thread.
    fn pieces(&self, index: usize) -> Vec<Range<usize>> {
        let share = self.sampler.share(index);
        let end = share.end;
        let pieces: Vec<_> = share.clone().step_by(PIECE).map(|start| start..(start + PIECE).min(end)).collect();
        if pieces.is_empty() { vec![share] } else { pieces }
    }
}

impl Source {
    /// Lets the data set read ahead this process's share of a batch, counted over all epochs.
    fn read_ahead(&self, number: u64) {
        let batches = self.sampler.batches() as u64;
        let order = self.order(number / batches);
        self.dataset.will_need(&order[self.sampler.share((number % batches) as usize)]);
    }
}

fn work(queue: &Queue, source: &Source) {
    let batches = source.sampler.batches() as u64;
    let pieces = |number: u64| source.pieces((number % batches) as usize).len();
    while let Some(Task { batch, piece }) = queue.take(pieces) {
        let (epoch, index) = (batch / batches, (batch % batches) as usize);
        if piece == 0 {
            source.read_ahead(batch + 1);
        }
        let make = || source.piece(epoch, index, source.pieces(index)[piece].clone(), queue.take_spare());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
        let failed = || Err(Error::Config("a loader thread failed while making a batch".into()));
        queue.put(Task { batch, piece }, result.unwrap_or_else(|_| failed()));
    }
}

/// Batches in order. Dropping this stops the threads.
pub struct Batches {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    next: u64,
    waited: Duration,
    spare: Option<Batch>,
}

impl Batches {
    /// Time spent waiting for batches since the last call.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// Returns a batch whose buffers can be reused.
    pub fn recycle(&mut self, batch: Batch) {
        self.spare = Some(batch);
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let pieces = self.queue.wait_for(self.next).into_iter().collect::<Result<Vec<Batch>>>();
        self.next += 1;
        let batch = pieces.and_then(|pieces| {
            let batch = join(&pieces, self.spare.take());
            self.queue.give_back(pieces);
            batch
        });
        self.waited += start.elapsed();
        Some(batch)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.queue.stop();
        for worker in self.workers.drain(..) {
            // A thread that panicked has already reported an error in its batch.
            let _ = worker.join();
        }
    }
}
