//! Batches as tensors: normalized on the device for a step, and as bytes in a file for a replay.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use equimod_core::{Normalization, StepBatch};
use equimod_data::{Batch, Pixels, Size};

use crate::{Error, Result};

/// The batch as tensors: normalized images `[rows, 3, height, width]` of the first element type on the first device, and
/// parameter vectors `[rows, width]` of the second type on the second device.
pub(crate) fn step_batch(
    batch: &Batch,
    normalization: &Normalization,
    [images_device, device]: [&Device; 2],
    [images_dtype, dtype]: [DType; 2],
) -> Result<StepBatch> {
    let images = |pixels: &Pixels| -> Result<Tensor> {
        let shape = (pixels.count, pixels.size.height, pixels.size.width);
        Ok(normalization.tensor(&pixels.bytes, shape, images_device, images_dtype)?)
    };
    let [first, second] = batch.views.as_slice() else {
        return Err(Error::DataSet(format!("the policy makes {} views, training needs two", batch.views.len())));
    };
    let vectors = |vectors: &[Vec<f32>]| -> Result<Option<Tensor>> {
        let rows = vectors.len() * first.count;
        let values = vectors.concat();
        if values.is_empty() {
            return Ok(None);
        }
        let width = values.len().checked_div(rows).unwrap_or(0);
        Ok(Some(Tensor::from_vec(values, (rows, width), device)?.to_dtype(dtype)?))
    };
    Ok(StepBatch {
        clean: batch.clean.as_ref().map(images).transpose()?,
        views: [images(first)?, images(second)?],
        small: batch.small.as_ref().map(images).transpose()?,
        params: vectors(&batch.params)?,
        pairs: vectors(&batch.pairs)?,
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
    Ok(Batch { epoch, index, clean, views, params, small, pairs, indices, skipped: Vec::new() })
}
