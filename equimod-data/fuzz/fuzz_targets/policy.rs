//! Policies and recorded parameters, deserialized from JSON.
#![no_main]

use equimod_data::{Image, LayoutConfig, ParamLayout, Policy, Size, ViewParams, clean_view, view_rng};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let size = Size { height: 5, width: 7 };
    let image = Image::new(size, (0..size.area() * 3).map(|k| k as u8).collect()).expect("an image");
    let Ok((policy, recorded)) = serde_json::from_slice::<(Policy, ViewParams)>(bytes) else { return };
    // A policy that passes the check must not fail; large views would only be slow.
    if policy.check().is_err() || policy.clean.resize.max(policy.clean.crop) > 64 {
        return;
    }
    if policy.view_sizes().iter().any(|size| size.area() > 64 * 64) {
        return;
    }
    let _ = ParamLayout::new(&policy, &LayoutConfig::default(), &[]);
    let _ = clean_view(&image, &policy.clean);
    for view in &policy.views {
        let params = view.sample(size, &mut view_rng(0, 0, 0, 0));
        for params in [&params, &recorded] {
            let _ = (view.apply(&image, params), view.describe(params));
        }
    }
});
