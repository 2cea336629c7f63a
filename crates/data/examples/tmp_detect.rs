//! tmp
use fixnet_data::*;
use std::time::Instant;
fn main() {
    for form in ["voc:/work/shared/data/detection/bccd", "coco:/work/shared/data/detection/nuclei", "digits-detect"] {
        let t = Instant::now();
        let c = DataConfig {
            source: form.parse().unwrap(),
            image_size: None,
            test: None,
            target: None,
            clips: ClipSettings::default(),
            validation: 0.0,
            seed: 1,
        };
        let s = c.load_detection().unwrap();
        println!(
            "{form} {:?} train {} val {:?} test {} {:?} {:?} {:?} notes {:?} fp {}",
            t.elapsed(),
            s.train.len(),
            s.validation.as_ref().map(|v| v.len()),
            s.test.len(),
            s.train.boxes_per_class(),
            s.validation.as_ref().map(|v| v.boxes_per_class()),
            s.test.boxes_per_class(),
            s.notes(),
            &s.train.fingerprint()[..12]
        );
        let t = Instant::now();
        let n = s.train.normalization().unwrap();
        println!("normalize {:?} {:?}", n, t.elapsed());
        for (k, augment) in [
            None,
            Some(DetectionAugment {
                flip: true,
                scale: 0.5,
                crop: 0.2,
                brightness: 0.3,
                contrast: 0.3,
                saturation: 0.3,
                mosaic: 0.5,
                ..Default::default()
            }),
        ]
        .into_iter()
        .enumerate()
        {
            let t = Instant::now();
            let mut l = DetectionLoader::new(&s.train, [256, 320], 16, &Normalize::none(3)).unwrap().shuffled(1, 0);
            if let Some(a) = augment {
                l = l.augmented(a, 1, 0).unwrap();
            }
            let b = l.next().unwrap().unwrap();
            println!("batch of 16: {:?}", t.elapsed());
            for i in 0..4 {
                let mut px: Vec<u8> = b.images.data()[i * 256 * 320 * 3..][..256 * 320 * 3]
                    .iter()
                    .map(|v| (v * 255.0).round() as u8)
                    .collect();
                for a in &b.annotations[i] {
                    let [x1, y1, x2, y2] = a.bbox.to_array().map(|v| v as usize);
                    let mut put = |y: usize, x: usize| {
                        if y < 256 && x < 320 {
                            px[(y * 320 + x) * 3..][..3].copy_from_slice(&[0, 255, 0])
                        }
                    };
                    for x in x1..x2 {
                        put(y1, x);
                        put(y2.max(1) - 1, x);
                    }
                    for y in y1..y2 {
                        put(y, x1);
                        put(y, x2.max(1) - 1);
                    }
                }
                std::fs::write(
                    format!("/tmp/det-{}-{k}-{i}.png", &form[..4]),
                    Picture::new(256, 320, px).unwrap().to_png().unwrap(),
                )
                .unwrap();
            }
        }
    }
}
