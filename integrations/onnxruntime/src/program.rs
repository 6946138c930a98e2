//! A program of the runtime that calls from several threads share.
#![expect(unsafe_code, reason = "sessions borrow the program that lives beside them")]

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use bitc_runtime::{DType, Program, Session, View, ViewMut};

/// A program and its idle sessions, of which a call takes one and gives it back.
pub(crate) struct Shared {
    /// Sessions of `program`; none of them leaves this type.
    idle: Mutex<Vec<Session<'static>>>,
    /// From `Box::into_raw`; freed after the sessions.
    program: NonNull<Program>,
}

// SAFETY: the program is only read once it is here, which any number of threads may do, and the sessions are behind a lock.
unsafe impl Send for Shared where Program: Sync {}
// SAFETY: as above.
unsafe impl Sync for Shared where Program: Sync {}

impl Shared {
    pub(crate) fn new(program: Program) -> Self {
        let program = NonNull::from(Box::leak(Box::new(program)));
        Self { idle: Mutex::new(Vec::new()), program }
    }

    /// Runs the program. The outputs have the types `outputs`; `room` is asked for the bytes of each, by its number,
    /// type and dimensions.
    pub(crate) fn run<'a>(
        &self,
        inputs: &[View<'_>],
        outputs: &[DType],
        mut room: impl FnMut(usize, DType, &[usize]) -> Result<&'a mut [u8], String>,
    ) -> Result<(), String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = idle.unwrap_or_else(|| {
            // SAFETY: the program lives until `self` is dropped, after all sessions, which stay in `self` or in this call.
            Session::new(unsafe { self.program.as_ref() })
        });
        let shapes = session.output_shapes(inputs).map_err(|e| e.to_string())?;
        let mut arrays = Vec::with_capacity(outputs.len());
        for (i, (&dtype, shape)) in outputs.iter().zip(&shapes).enumerate() {
            arrays.push(ViewMut::new(dtype, shape, room(i, dtype, shape)?));
        }
        session.run(inputs, &mut arrays).map_err(|e| e.to_string())?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        // SAFETY: from `Box::leak` in `new`, given back once; the sessions that borrowed it are gone.
        drop(unsafe { Box::from_raw(self.program.as_ptr()) });
    }
}
