//! Recognition of networks that are not supported, for clear error messages.

use std::collections::BTreeMap;

use candle_core::Tensor;

/// Parts of tensor names that identify a kind of network.
const MARKS: [(&[&str], &str); 14] = [
    (&[".se.", ".se_module."], "a ResNet with squeeze-and-excitation (SE-ResNet)"),
    (&[".eca."], "a ResNet with efficient channel attention (ECA-ResNet)"),
    (&["attnpool."], "the ResNet of CLIP, which ends with attention"),
    (&[".conv2.fc1.", ".conv2.rsoftmax"], "a ResNeSt"),
    (&[".conv2.attn.", ".conv2.paths."], "a selective-kernel network (SK-ResNet)"),
    (&[".convs.0.weight"], "a Res2Net"),
    (
        &["backbone.bottom_up.", "res2.0.conv1", "stem.conv1.norm", "res2_0_branch2a"],
        "a network of Detectron2 or Caffe2",
    ),
    (&["stages.0.blocks.0.conv1.weight"], "a ResNet with its activations first (timm's resnetv2)"),
    (&["patch_embed.", "patch_embedding", "vision_model.encoder.layers"], "a vision transformer"),
    (&["stages.0.blocks.0.conv_dw"], "a ConvNeXt"),
    (&["features.denseblock1"], "a DenseNet"),
    (&["features.0.weight"], "a VGG, AlexNet or MobileNet"),
    (&["embedder.embedder.convolution"], "a ResNet of transformers, which has names of its own"),
    (&["text_model.", "lm_head."], "a language model"),
];

/// Kind of a network by the names and shapes of its tensors; `None` if it is not recognized.
pub(super) fn named(tensors: &BTreeMap<String, Tensor>) -> Option<&'static str> {
    let has = |marks: &[&str]| tensors.keys().any(|name| marks.iter().any(|mark| name.contains(mark)));
    let marked = MARKS.iter().find(|(marks, _)| has(marks)).map(|(_, what)| *what);
    let without_statistics = || {
        let is_norm = tensors.contains_key("bn1.weight") && !tensors.contains_key("bn1.running_mean");
        is_norm
            .then_some("a ResNet whose norms have no running statistics (group norm, or frozen batch norm folded in)")
    };
    let channels = || match tensors.get("conv1.weight").map(Tensor::dims) {
        Some([_, 3, ..]) | None => None,
        Some(_) => Some("a ResNet for other than three channels"),
    };
    marked.or_else(channels).or_else(without_statistics)
}
