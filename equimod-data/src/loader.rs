//! Batches from several threads, in order, a bounded number ahead.
//!
//! Batch k of epoch e depends on (seed, e, k) alone: the threads decide when a batch is made, never what is in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::dataset::Dataset;
use crate::encoding::ParamLayout;
use crate::image::{Image, Size};
use crate::policy::{Policy, clean_view};
use crate::random::view_rng;
use crate::sampler::Sampler;
use crate::{Error, Result};

/// Pictures of one size: `count` × height × width × 3 bytes, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Number of pictures.
    pub count: usize,
    /// Of each.
    pub size: Size,
    /// Row by row, red, green, blue.
    pub bytes: Vec<u8>,
}

impl Pixels {
    fn empty(side: usize, capacity: usize) -> Self {
        let size = Size::square(side);
        Self { count: 0, size, bytes: Vec::with_capacity(capacity * size.area() * 3) }
    }

    fn push(&mut self, image: Image) -> Result<()> {
        if image.size() != self.size {
            let text =
                format!("a view came out as {}, not {}; let the policy end in one size", image.size(), self.size);
            return Err(Error::Config(text));
        }
        self.bytes.extend_from_slice(image.pixels());
        self.count += 1;
        Ok(())
    }
}

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// From 0.
    pub epoch: u64,
    /// Batch of the epoch, from 0.
    pub index: usize,
    /// The pictures without augmentation, if asked for.
    pub clean: Option<Pixels>,
    /// One entry a view.
    pub views: Vec<Pixels>,
    /// Normalised parameter vectors: one entry a view, `count × width` values.
    pub params: Vec<Vec<f32>>,
    /// Which pictures of the data set.
    pub indices: Vec<usize>,
}

/// What batches hold and how they are made.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Decides order and augmentations.
    pub seed: u64,
    /// Pictures in a batch.
    pub batch: usize,
    /// Whether batches hold the clean pictures.
    pub clean: bool,
    /// Threads that decode and augment; they change nothing but the time.
    pub threads: usize,
    /// Batches made ahead.
    pub prefetch: usize,
}

/// A source of batches.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Source>,
    threads: usize,
    prefetch: usize,
}

struct Source {
    dataset: Arc<dyn Dataset>,
    policy: Policy,
    layout: ParamLayout,
    sampler: Sampler,
    clean: bool,
}

impl Loader {
    /// A loader over `dataset`, which must fill at least one batch.
    pub fn new(dataset: Arc<dyn Dataset>, policy: Policy, layout: ParamLayout, config: &LoaderConfig) -> Result<Self> {
        let sampler = Sampler { seed: config.seed, samples: dataset.len(), batch: config.batch };
        if sampler.batches() == 0 {
            let text =
                format!("its {} pictures do not fill a batch of {}; use a smaller batch", dataset.len(), config.batch);
            return Err(Error::data_set(dataset.name(), text));
        }
        let shared = Arc::new(Source { dataset, policy, layout, sampler, clean: config.clean });
        Ok(Self { shared, threads: config.threads.max(1), prefetch: config.prefetch.max(1) })
    }

    /// Whole batches in an epoch.
    pub fn batches(&self) -> usize {
        self.shared.sampler.batches()
    }

    /// Makes batch `index` of epoch `epoch` in this thread.
    pub fn batch(&self, epoch: u64, index: usize) -> Result<Batch> {
        self.shared.batch(epoch, index, &self.shared.sampler.order(epoch))
    }

    /// Batches from batch `first` on, counted over all epochs from 0; without end.
    pub fn start(&self, first: u64) -> Result<Batches> {
        let state = State { next: first, consumed: first, done: BTreeMap::new(), stop: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new(), ahead: self.prefetch as u64 });
        let mut batches = Batches { queue, workers: Vec::new(), next: first, waited: Duration::ZERO };
        for number in 0..self.threads {
            let (queue, source) = (batches.queue.clone(), self.shared.clone());
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            let worker = thread.spawn(move || work(&queue, &source));
            batches.workers.push(worker.map_err(|e| Error::Config(format!("a loader thread cannot be started: {e}")))?);
        }
        Ok(batches)
    }
}

impl Source {
    fn batch(&self, epoch: u64, index: usize, order: &[usize]) -> Result<Batch> {
        let indices: Vec<usize> = order[index * self.sampler.batch..][..self.sampler.batch].to_vec();
        let (side, count) = (self.policy.size(), indices.len());
        let empty = || Pixels::empty(side, count);
        let mut clean = self.clean.then(empty);
        let mut views: Vec<Pixels> = self.policy.views.iter().map(|_| empty()).collect();
        let mut params = vec![Vec::with_capacity(count * self.layout.width()); views.len()];
        for &sample in &indices {
            let image = self.dataset.image(sample)?;
            if let Some(clean) = &mut clean {
                clean.push(clean_view(&image, &self.policy.clean))?;
            }
            for (number, policy) in self.policy.views.iter().enumerate() {
                let mut rng = view_rng(self.sampler.seed, epoch, sample as u64, number as u64);
                let drawn = policy.sample(image.size(), &mut rng);
                self.layout.encode(policy, &drawn, image.size(), &mut params[number]);
                views[number].push(policy.apply(&image, &drawn))?;
            }
        }
        params.iter_mut().for_each(|values| self.layout.normalise(values));
        Ok(Batch { epoch, index, clean, views, params, indices })
    }
}

struct State {
    /// The next batch that a thread takes up.
    next: u64,
    /// The next batch that is handed out.
    consumed: u64,
    done: BTreeMap<u64, Result<Batch>>,
    stop: bool,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    ahead: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panics leaves the state whole: it is changed in single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the batch to make next, once it is wanted; `None` at the end.
    fn take(&self) -> Option<u64> {
        let mut state = self.lock();
        while !state.stop && state.next >= state.consumed + self.ahead {
            state = self.wait(state);
        }
        state.next += 1;
        (!state.stop).then(|| state.next - 1)
    }

    fn put(&self, number: u64, batch: Result<Batch>) {
        self.lock().done.insert(number, batch);
        self.changed.notify_all();
    }
}

fn work(queue: &Queue, source: &Source) {
    let batches = source.sampler.batches() as u64;
    let mut known: Option<(u64, Vec<usize>)> = None;
    while let Some(number) = queue.take() {
        let (epoch, index) = (number / batches, (number % batches) as usize);
        if known.as_ref().is_none_or(|(e, _)| *e != epoch) {
            known = Some((epoch, source.sampler.order(epoch)));
        }
        let order = known.as_ref().map_or(&[][..], |(_, order)| order);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| source.batch(epoch, index, order)));
        queue.put(
            number,
            made.unwrap_or_else(|_| Err(Error::Config("a loader thread failed while making a batch".into()))),
        );
    }
}

/// Batches in order. Dropping it stops the threads.
pub struct Batches {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    next: u64,
    waited: Duration,
}

impl Batches {
    /// How long batches were waited for since the last call.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let mut state = self.queue.lock();
        let batch = loop {
            if let Some(batch) = state.done.remove(&self.next) {
                break batch;
            }
            state = self.queue.wait(state);
        };
        state.consumed += 1;
        drop(state);
        self.queue.changed.notify_all();
        self.next += 1;
        self.waited += start.elapsed();
        Some(batch)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.queue.lock().stop = true;
        self.queue.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A thread that panicked has already reported through its batch.
            let _ = worker.join();
        }
    }
}
