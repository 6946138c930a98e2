//! The table of all passes: one line per pass.

use bitc_ir::{AttrError, AttrReader, Attrs};

use crate::pass::{ParamError, Pass};

/// A pass as pipelines know it.
pub struct PassEntry {
    /// The name in pipelines.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    build: fn(&mut AttrReader) -> Result<Box<dyn Pass>, AttrError>,
}

impl PassEntry {
    /// The pass with the given parameters.
    ///
    /// # Errors
    /// If a parameter is unknown or has a wrong value.
    pub fn build(&self, params: Attrs) -> Result<Box<dyn Pass>, ParamError> {
        let failed = |error| ParamError { pass: self.name, error };
        let mut reader = AttrReader::new(self.name, params);
        let pass = (self.build)(&mut reader).map_err(failed)?;
        reader.finish().map_err(failed)?;
        Ok(pass)
    }
}

/// The pass of that name.
pub fn find(name: &str) -> Option<&'static PassEntry> {
    PASSES.iter().find(|p| p.name == name)
}

macro_rules! passes {
    ($($module:ident::$pass:ident,)+) => {
        /// Every pass.
        pub const PASSES: &[PassEntry] = &[$(PassEntry {
            name: crate::$module::$pass::NAME,
            doc: crate::$module::$pass::DOC,
            build: |params| Ok(Box::new(crate::$module::$pass::from_params(params)?)),
        }),+];
    };
}

passes! {
    eliminate_dead_code::EliminateDeadCode,
    fold_constants::FoldConstants,
    simplify::Simplify,
    cse::Cse,
    recognize_quantizers::RecognizeQuantizers,
    ternarize_weights::TernarizeWeights,
    rewrite_to_ternary::RewriteToTernary,
    linear_to_bit_linear::LinearToBitLinear,
    fold_batch_norm::FoldBatchNorm,
    fold_scales::FoldScales,
    fuse_bias_and_activation::FuseBiasAndActivation,
    quantize_before_pool::QuantizeBeforePool,
    cones_to_logic::ConesToLogic,
    fold_thresholds::FoldThresholds,
    lut_to_logic::LutToLogic,
    logic_dont_cares::LogicDontCares,
    optimize_logic::OptimizeLogic,
    freeze::Freeze,
}
