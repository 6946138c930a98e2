//! The time this process has spent computing.

use std::time::Duration;

/// The processor time of all threads of this process since it began; `None` where the system cannot tell.
#[cfg(unix)]
pub(crate) fn process_cpu() -> Option<Duration> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?))
}

/// The processor time of all threads of this process since it began; `None` where the system cannot tell.
#[cfg(not(unix))]
pub(crate) fn process_cpu() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let Some(before) = process_cpu() else { return };
        let mut x = 1u64;
        while process_cpu().unwrap() <= before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(x > 0);
    }
}
