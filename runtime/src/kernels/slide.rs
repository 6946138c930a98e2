//! How a window moves along an axis, and which of its taps meet what.

/// Size and movement of a window along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Slide {
    /// Extent of the window, in taps.
    pub kernel: usize,
    /// Distance of neighbouring windows.
    pub stride: usize,
    /// Padding before the input.
    pub pad: usize,
    /// Padding after the input.
    pub pad_end: usize,
    /// Distance of neighbouring taps.
    pub dilation: usize,
    /// Size of the input.
    pub input: usize,
    /// Size of the output.
    pub output: usize,
}

impl Slide {
    /// The movements along height and width, the last axes of the shapes.
    pub(crate) fn both(
        kernel: [usize; 2],
        strides: [u32; 2],
        pads: [u32; 4],
        dilations: [u32; 2],
        input: &[usize],
        output: &[usize],
    ) -> [Self; 2] {
        [0, 1].map(|axis| Self {
            kernel: kernel[axis],
            stride: strides[axis] as usize,
            pad: pads[axis] as usize,
            pad_end: pads[axis + 2] as usize,
            dilation: dilations[axis] as usize,
            input: input[axis + 2],
            output: output[axis + 2],
        })
    }

    /// The outputs for which a tap lies inside the input, and the input position of the first of them.
    pub(crate) fn outputs_of_tap(&self, tap: usize) -> (usize, usize, usize) {
        let shift = tap * self.dilation;
        // Most windows move by one, which needs no division.
        let steps = |n: usize| if self.stride == 1 { n } else { n.div_ceil(self.stride) };
        let first = steps(self.pad.saturating_sub(shift));
        // output * stride + shift - pad < input
        let end = steps((self.input + self.pad).saturating_sub(shift)).min(self.output);
        let first = first.min(end);
        (first, end, (first * self.stride + shift).saturating_sub(self.pad))
    }

    /// The taps of a window that lie inside the input, and the input position of the first of them.
    #[cfg(not(feature = "minimal"))]
    pub(super) fn taps_of_output(&self, output: usize) -> (usize, usize) {
        let start = output * self.stride;
        let first = self.pad.saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        let end = (self.input + self.pad).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        (first.min(end), end)
    }

    /// How many taps of a window lie inside the padded input.
    #[cfg(not(feature = "minimal"))]
    pub(super) fn padded_taps(&self, output: usize) -> usize {
        let end = (self.input + self.pad + self.pad_end).saturating_sub(output * self.stride);
        end.div_ceil(self.dilation).min(self.kernel)
    }
}
