//! Batches as tensors: normalized on the device for a step, and as bytes in a file for a replay.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use equimod_core::images::{self, Resampling, ViewProgram, ViewPrograms};
use equimod_core::{Normalization, StepBatch};
use equimod_data::resample::Weights;
use equimod_data::{Batch, Deferred, PixelOperation, Pixels, PlannedView, PlannedViews, Size, blur, color};

use crate::{Error, Result};

/// The batch as tensors: normalized images `[rows, 3, height, width]` of the first element type on the first device, and
/// parameter vectors `[rows, width]` of the second type on the second device.
///
/// # Errors
///
/// If the batch does not have two views, or a tensor operation fails.
pub fn step_batch(
    batch: &Batch,
    normalization: &Normalization,
    [images_device, device]: [&Device; 2],
    [images_dtype, dtype]: [DType; 2],
) -> Result<StepBatch> {
    let vectors = |vectors: &[Vec<f32>]| -> Result<Option<Tensor>> {
        let rows = vectors.len() * batch.indices.len();
        let values = vectors.concat();
        if values.is_empty() {
            return Ok(None);
        }
        let width = values.len().checked_div(rows).unwrap_or(0);
        Ok(Some(Tensor::from_vec(values, (rows, width), device)?.to_dtype(dtype)?))
    };
    let Images { clean, views, small } = match &batch.deferred {
        Some(deferred) => images_on_device(deferred, normalization, device, images_dtype)?,
        None => images(batch, normalization, images_device, images_dtype)?,
    };
    let views = <[Tensor; 2]>::try_from(views)
        .map_err(|views| Error::DataSet(format!("the policy makes {} views, training needs two", views.len())))?;
    Ok(StepBatch { clean, views, small, params: vectors(&batch.params)?, pairs: vectors(&batch.pairs)? })
}

/// Gives each image the parameter vectors of the next one in the batch, and the last those of the first.
pub(crate) fn rotate_parameters(batch: &mut Batch) {
    let images = batch.indices.len().max(1);
    for vectors in batch.params.iter_mut().chain(&mut batch.pairs) {
        let width = vectors.len() / images;
        vectors.rotate_left(width);
    }
}

/// Normalized images of a batch.
struct Images {
    clean: Option<Tensor>,
    views: Vec<Tensor>,
    small: Option<Tensor>,
}

/// Images whose pixels are in the batch.
fn images(batch: &Batch, normalization: &Normalization, device: &Device, dtype: DType) -> Result<Images> {
    let tensor = |pixels: &Pixels| -> Result<Tensor> {
        let shape = (pixels.count, pixels.size.height, pixels.size.width);
        Ok(normalization.tensor(&pixels.bytes, shape, device, dtype)?)
    };
    let views = batch.views.iter().map(tensor).collect::<Result<_>>()?;
    let (clean, small) = (batch.clean.as_ref().map(tensor), batch.small.as_ref().map(tensor));
    Ok(Images { clean: clean.transpose()?, views, small: small.transpose()? })
}

/// Images that the device makes from the originals.
fn images_on_device(
    deferred: &Deferred,
    normalization: &Normalization,
    device: &Device,
    dtype: DType,
) -> Result<Images> {
    let planned = deferred.clean.iter().chain(&deferred.small).chain(&deferred.views);
    let programs: Vec<ViewPrograms> = planned.map(|planned| programs(deferred, planned)).collect::<Result<_>>()?;
    let mut made = normalization.views(&deferred.bytes, &programs, device, dtype)?.into_iter();
    let clean = deferred.clean.as_ref().and_then(|_| made.next());
    let small = deferred.small.as_ref().and_then(|_| made.next());
    Ok(Images { clean, views: made.collect(), small })
}

fn programs<'a>(deferred: &Deferred, planned: &'a PlannedViews) -> Result<ViewPrograms<'a>> {
    let program = |view: &'a PlannedView| {
        let missing = || Error::DataSet(format!("a planned view needs original {}", view.original));
        let &(place, size) = deferred.originals.get(view.original).ok_or_else(missing)?;
        let (part, stride) = (view.plan.part, size.width * 3);
        Ok(ViewProgram {
            start: place + part.top * stride + part.left * 3,
            stride,
            columns: resampling(&view.columns),
            rows: resampling(&view.rows),
            operations: view.plan.operations.iter().filter_map(on_device).collect(),
        })
    };
    let views = planned.views.iter().map(program).collect::<Result<_>>()?;
    Ok(ViewPrograms { size: (planned.size.height, planned.size.width), views })
}

fn resampling(weights: &Weights) -> Resampling<'_> {
    Resampling { bounds: &weights.bounds, weights: &weights.values, slots: weights.longest }
}

/// An operation as the device takes it; `None` if it changes nothing.
fn on_device(operation: &PixelOperation) -> Option<images::PixelOperation> {
    use images::PixelOperation as Device;
    Some(match *operation {
        PixelOperation::HorizontalFlip => Device::HorizontalFlip,
        PixelOperation::VerticalFlip => Device::VerticalFlip,
        PixelOperation::Brightness(factor) => Device::Brightness(factor),
        PixelOperation::Contrast(factor) => Device::Contrast(factor),
        PixelOperation::Saturation(factor) => Device::Saturation(factor),
        PixelOperation::Hue(shift) => Device::Hue(color::hue_steps(shift)),
        PixelOperation::Grayscale => Device::Grayscale,
        PixelOperation::Solarize(threshold) => Device::Solarize(threshold),
        PixelOperation::Posterize(bits) => Device::Mask(color::posterize_mask(bits)),
        PixelOperation::Blur { kernel, sigma } => {
            Device::Blur(Some(blur::significant_weights(kernel, sigma)).filter(|weights| !weights.is_empty())?)
        }
        PixelOperation::Fill { part, color } => {
            Device::Fill { corner: (part.top, part.left), size: (part.height, part.width), color }
        }
    })
}

/// The batch as it came from the loader: images as bytes `[images, height, width, 3]`, parameter vectors
/// `[kinds, images, width]`, and the indices of the images `[images]`.
pub(crate) fn to_tensors(batch: &Batch) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    let numbered = batch.views.iter().enumerate().map(|(number, view)| (format!("view{}", number + 1), view));
    let others = [("clean", &batch.clean), ("small", &batch.small)];
    let others = others.into_iter().filter_map(|(name, pixels)| Some((name.to_owned(), pixels.as_ref()?)));
    for (name, Pixels { count, size, bytes }) in numbered.chain(others) {
        tensors.insert(name, Tensor::from_slice(bytes, (*count, size.height, size.width, 3), &Device::Cpu)?);
    }
    let images = batch.indices.len().max(1);
    for (name, vectors) in [("params", &batch.params), ("pairs", &batch.pairs)] {
        let values = vectors.concat();
        if !values.is_empty() {
            let shape = (vectors.len(), images, values.len() / (vectors.len() * images));
            tensors.insert(name.into(), Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
    }
    let indices: Vec<i64> = batch.indices.iter().map(|&index| index as i64).collect();
    tensors.insert("indices".into(), Tensor::new(indices, &Device::Cpu)?);
    Ok(tensors)
}

/// The batch that [`to_tensors`] wrote.
pub(crate) fn from_tensors(tensors: &BTreeMap<String, Tensor>, epoch: u64, index: usize) -> Result<Batch> {
    let pixels = |name: &str| -> Result<Option<Pixels>> {
        let Some(tensor) = tensors.get(name) else { return Ok(None) };
        let (count, height, width, _) = tensor.dims4()?;
        let bytes = tensor.flatten_all()?.to_vec1::<u8>()?;
        Ok(Some(Pixels { count, size: Size { height, width }, bytes }))
    };
    let vectors = |name: &str| -> Result<Vec<Vec<f32>>> {
        let Some(tensor) = tensors.get(name) else { return Ok(Vec::new()) };
        Ok(tensor.flatten_from(1)?.to_vec2::<f32>()?)
    };
    let indices = match tensors.get("indices") {
        Some(tensor) => tensor.to_vec1::<i64>()?.into_iter().map(|index| index as usize).collect(),
        None => Vec::new(),
    };
    let views = [pixels("view1")?, pixels("view2")?].into_iter().flatten().collect();
    let (clean, small, params, pairs) = (pixels("clean")?, pixels("small")?, vectors("params")?, vectors("pairs")?);
    Ok(Batch { epoch, index, clean, views, params, small, pairs, indices, skipped: Vec::new(), deferred: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_move_on_by_one_image() {
        let vectors = |values: &[f32]| Tensor::from_slice(values, (1, 3, 2), &Device::Cpu).unwrap();
        let indices = Tensor::new(&[7i64, 8, 9], &Device::Cpu).unwrap();
        let params = vectors(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let tensors = BTreeMap::from([("params".to_owned(), params), ("indices".to_owned(), indices)]);
        let mut batch = from_tensors(&tensors, 0, 0).unwrap();
        rotate_parameters(&mut batch);
        assert_eq!(batch.params, [[3.0, 4.0, 5.0, 6.0, 1.0, 2.0]]);
        assert!(batch.pairs.is_empty());
    }
}
