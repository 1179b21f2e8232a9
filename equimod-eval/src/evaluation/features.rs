//! The features of every split.

use equimod_data::Dataset;

use super::Evaluation;
use crate::{Extractor, Features, InputTransform, Result};

/// Pooled features of the images of each split.
pub struct SplitFeatures {
    /// Features of the training images.
    pub train: Features,
    /// Features of the validation images, if there are any.
    pub validation: Option<Features>,
    /// Features of the test images, if there are any.
    pub test: Option<Features>,
}

impl Evaluation<'_> {
    /// The features of every split, computed or read from the cache at the first call.
    pub(super) fn features(&self) -> Result<&SplitFeatures> {
        if let Some(features) = self.features.get() {
            return Ok(features);
        }
        let extractor = self.extractor();
        let of = |dataset: &dyn Dataset| -> Result<Features> {
            let features = extractor.features(dataset)?;
            features.undecoded_text(dataset).iter().for_each(|text| self.observer.log(text));
            Ok(features)
        };
        let features = SplitFeatures {
            train: of(self.splits.train.as_ref())?,
            validation: self.splits.validation.as_deref().map(of).transpose()?,
            test: self.splits.test.as_deref().map(of).transpose()?,
        };
        Ok(self.features.get_or_init(|| features))
    }

    fn extractor(&self) -> Extractor<'_> {
        let extractor = Extractor::new(self.model, self.cache.as_deref()).with_copies(self.copies);
        match self.input {
            Some(input) => extractor.with_input(input),
            None => extractor,
        }
    }

    /// Input transform of a network that is trained on the images.
    pub(super) fn training_input(&self) -> InputTransform {
        let size = self.model.preprocessing.size;
        self.input.unwrap_or(InputTransform { size, crop: crate::Crop::Inset })
    }

    /// The features of the test images (without a test split, of the training images) and their data set.
    pub(super) fn test_features(&self) -> Result<(&Features, &dyn Dataset)> {
        let features = self.features()?;
        Ok((features.test.as_ref().unwrap_or(&features.train), self.splits.test_or_train().as_ref()))
    }
}
