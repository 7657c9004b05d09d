//! Which seed each sample of a restoration has.

use tweedie::run::sample_seeds::SampleSeeds;

#[test]
fn a_first_run_counts_image_by_image_and_later_ones_go_on_behind() {
    let first = SampleSeeds::new(3, vec![2]);
    assert_eq!([0, 1, 2].map(|image| [first.seed(image, 0), first.seed(image, 1)]), [[0, 1], [2, 3], [4, 5]]);
    let more = SampleSeeds::new(3, vec![2, 4, 5]);
    let seeds: Vec<u64> =
        (0..3).flat_map(|image| (0..5).map(move |s| (image, s))).map(|(i, s)| more.seed(i, s)).collect();
    assert_eq!(seeds, [0, 1, 6, 7, 12, 2, 3, 8, 9, 13, 4, 5, 10, 11, 14]);
    for image in 0..3 {
        for sample in 0..5 {
            assert_eq!(more.place(more.seed(image, sample)), (image, sample));
        }
    }
    assert_eq!(more.place(15).0, 2);
    // One image: as a longer run from the start.
    let (one, longer) = (SampleSeeds::new(1, vec![2, 4]), SampleSeeds::new(1, vec![4]));
    assert!((0..4).all(|sample| one.seed(0, sample) == longer.seed(0, sample)));
}
