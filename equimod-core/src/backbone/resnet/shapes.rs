//! Shapes of all convolutions of a ResNet.

use super::config::{ResNetConfig, Stem};

impl ResNetConfig {
    /// Convolutions of the stem, in order.
    pub(super) fn stem_convolutions(&self) -> Vec<StemConvolution> {
        let conv = |inputs, outputs, stride, padding| StemConvolution { inputs, outputs, stride, padding };
        match self.stem {
            Stem::Cifar => vec![conv(3, self.width, 1, self.padding())],
            Stem::ImageNet => vec![conv(3, self.width, 2, self.padding())],
            Stem::Deep => {
                let [a, b, c] = self.deep_widths();
                vec![conv(3, a, 2, self.padding()), conv(a, b, 1, 1), conv(b, c, 1, 1)]
            }
        }
    }

    /// Blocks of a stage, counted from 0, whose input has `inputs` channels.
    pub(super) fn blocks(&self, stage: usize, inputs: usize) -> Vec<BlockShape> {
        let expansion = self.architecture.expansion();
        let (inner, outputs) = (self.inner(stage), (self.width << stage) * expansion);
        let block = |number: usize| BlockShape {
            inputs: if number == 0 { inputs } else { outputs },
            inner,
            outputs,
            stride: if number == 0 && stage > 0 { 2 } else { 1 },
            groups: self.groups,
            is_bottleneck: expansion > 1,
            average_shortcut: self.average_shortcut,
            after_relu: self.stem_relu || stage > 0 || number > 0,
        };
        (0..self.architecture.blocks()[stage]).map(block).collect()
    }

    /// Multiply-accumulate operations (MACs) of all convolutions for one square image of `side` pixels.
    pub fn macs(&self, side: usize) -> f64 {
        self.outputs(side).iter().map(|output| output.values() * output.window as f64).sum()
    }

    /// Values in the outputs of all convolutions for one square image of `side` pixels, as timm counts activations.
    pub fn activations(&self, side: usize) -> f64 {
        self.outputs(side).iter().map(ConvOutput::values).sum()
    }

    /// Outputs of all convolutions for one square image of `side` pixels.
    fn outputs(&self, side: usize) -> Vec<ConvOutput> {
        let (mut all, mut side, mut inputs) = (Vec::new(), side, 3);
        let mut add = |side: usize, kernel: usize, (inputs, outputs): (usize, usize)| {
            all.push(ConvOutput { side, channels: outputs, window: kernel * kernel * inputs });
        };
        for conv in self.stem_convolutions() {
            let kernel = self.stem.kernel();
            side = (side + 2 * conv.padding).saturating_sub(kernel) / conv.stride + 1;
            add(side, kernel, (conv.inputs, conv.outputs));
            inputs = conv.outputs;
        }
        if self.pools() {
            // The max-pool halves the side, rounding up.
            side = side.div_ceil(2);
        }
        for block in (0..4).flat_map(|stage| {
            let blocks = self.blocks(stage, inputs);
            inputs = blocks.last().map_or(inputs, |block| block.outputs);
            blocks
        }) {
            let after = side.div_ceil(block.stride);
            for conv in block.convolutions() {
                let side = if conv.before_stride { side } else { after };
                add(side, conv.kernel, (conv.inputs / conv.groups, conv.outputs));
            }
            if block.has_convolution_on_shortcut() {
                add(after, 1, (block.inputs, block.outputs));
            }
            side = after;
        }
        all
    }
}

/// Output of a convolution for one image.
struct ConvOutput {
    /// Height and width in pixels.
    side: usize,
    channels: usize,
    /// Weights of one output channel.
    window: usize,
}

impl ConvOutput {
    fn values(&self) -> f64 {
        (self.side * self.side * self.channels) as f64
    }
}

/// Shape of a convolution of the stem.
pub(super) struct StemConvolution {
    pub inputs: usize,
    pub outputs: usize,
    pub stride: usize,
    pub padding: usize,
}

/// Shape of a residual block.
#[derive(Clone, Copy)]
pub(super) struct BlockShape {
    pub inputs: usize,
    /// Channels between the convolutions.
    pub inner: usize,
    pub outputs: usize,
    pub stride: usize,
    pub groups: usize,
    pub is_bottleneck: bool,
    pub average_shortcut: bool,
    /// Whether the input is the output of a ReLU.
    pub after_relu: bool,
}

/// Shape of a convolution of a block's main branch.
pub(super) struct BlockConvolution {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
    /// Whether the output has the resolution of the block's input.
    pub before_stride: bool,
}

impl BlockShape {
    /// Convolutions of the main branch, in order.
    pub fn convolutions(&self) -> Vec<BlockConvolution> {
        let &Self { inputs, inner, outputs, stride, groups, .. } = self;
        let conv = |inputs, outputs, kernel, stride, groups| BlockConvolution {
            inputs,
            outputs,
            kernel,
            stride,
            groups,
            before_stride: false,
        };
        match self.is_bottleneck {
            false => vec![conv(inputs, inner, 3, stride, 1), conv(inner, outputs, 3, 1, 1)],
            true => vec![
                BlockConvolution { before_stride: true, ..conv(inputs, inner, 1, 1, 1) },
                conv(inner, inner, 3, stride, groups),
                conv(inner, outputs, 1, 1, 1),
            ],
        }
    }

    /// Whether the shortcut has a convolution, because the shape changes.
    pub fn has_convolution_on_shortcut(&self) -> bool {
        self.stride != 1 || self.inputs != self.outputs
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Architecture;
    use super::*;

    #[test]
    fn activations_are_those_that_timm_counts() {
        // At 224 pixels, in millions, as its model cards say.
        for (architecture, want) in Architecture::ALL.into_iter().zip([2.48, 3.74, 11.1, 16.2, 22.6]) {
            let config = ResNetConfig { architecture, stem: Stem::ImageNet, ..Default::default() };
            let found = config.activations(224) / 1e6;
            assert!((found / want - 1.0).abs() < 5e-3, "{found} {want}");
        }
    }

    #[test]
    fn macs_are_those_that_papers_count() {
        // He et al. (arXiv 1512.03385, table 1) count 1.8e9, 3.6e9, 3.8e9 (stride on the first convolution of a
        // bottleneck), 7.6e9 and 11.3e9 with the classifier; torchvision's ResNet-50 has 4.1e9.
        let of = |architecture| {
            let config = ResNetConfig { architecture, stem: Stem::ImageNet, ..Default::default() };
            config.macs(224) / 1e9
        };
        let found = Architecture::ALL.map(of);
        for (found, want) in found.into_iter().zip([1.814, 3.663, 4.087, 7.799, 11.51]) {
            assert!((found / want - 1.0).abs() < 2e-3, "{found} {want}");
        }
        // 0.56e9 with the CIFAR stem, whose 3×3 convolution from 3 to 64 channels hardly counts.
        let cifar = ResNetConfig::default().macs(32) / 1e9;
        assert!((cifar / 0.5556 - 1.0).abs() < 2e-3, "{cifar}");
    }

    #[test]
    fn macs_of_variants_are_those_of_their_authors() {
        // Xie et al. (arXiv 1611.05431, table 1) count 4.2e9 of ResNeXt-50 (32x4d); torchvision 4.23e9, 11.40e9 of
        // the wide ResNet-50-2; He et al. (arXiv 1812.01187, table 5) 4.3e9 of ResNet-50-D.
        let standard =
            ResNetConfig { architecture: Architecture::ResNet50, stem: Stem::ImageNet, ..ResNetConfig::default() };
        let variants = [
            (ResNetConfig { groups: 32, width_per_group: 4, ..standard.clone() }, 4.23),
            (ResNetConfig { width_per_group: 128, ..standard.clone() }, 11.40),
            (ResNetConfig { stem: Stem::Deep, average_shortcut: true, ..standard }, 4.33),
        ];
        for (config, want) in variants {
            let found = config.macs(224) / 1e9;
            assert!((found / want - 1.0f64).abs() < 5e-3, "{config}: {found} {want}");
        }
    }
}
