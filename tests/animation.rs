//! Moving pictures, as a decoder sees them.

use std::{fs::File, io::BufReader, path::Path};

use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{files::images, report::animation};

/// Bytes and delay in milliseconds of each frame.
fn frames(path: &Path) -> Vec<(Vec<u8>, f64)> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let count = reader.info().animation_control.unwrap().num_frames;
    assert_eq!(reader.info().animation_control.unwrap().num_plays, 0, "again and again");
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    let frame = |_| {
        let size = reader.next_frame(&mut bytes).unwrap().buffer_size();
        let control = reader.info().frame_control.unwrap();
        (bytes[..size].to_vec(), 1000.0 * f64::from(control.delay_num) / f64::from(control.delay_den))
    };
    (0..count).map(frame).collect()
}

#[test]
fn an_animation_holds_every_frame_as_its_picture_and_lingers_on_the_last() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("walk.png");
    tch::manual_seed(7);
    for channels in [1, 3] {
        let states: Vec<Tensor> = (0..4).map(|_| Tensor::randn([channels, 5, 7], (Kind::Float, Device::Cpu))).collect();
        animation::write(&path, &states).unwrap();
        let found = frames(&path);
        assert_eq!(found.len(), 4);
        for (state, (bytes, delay)) in states.iter().zip(&found).take(3) {
            assert_eq!(*bytes, images::bytes(&images::to_bytes(state).permute([1, 2, 0])).unwrap());
            assert_eq!(*delay, 80.0);
        }
        assert_eq!(found[3].1, 2000.0);
        // A program that knows no animations sees the end of the walk.
        assert_eq!(images::read_as_is(&path).unwrap(), images::to_bytes(&states[3]));
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing unfinished");
}

#[test]
fn about_25_states_stand_for_a_walk_with_its_first_and_its_last() {
    for states in [1, 2, 24, 25, 26, 100, 1001] {
        let chosen = animation::chosen(states);
        assert_eq!(chosen.len(), states.min(25));
        assert_eq!((chosen[0], chosen[chosen.len() - 1]), (0, states - 1));
        assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]), "{chosen:?}");
    }
    assert!(animation::chosen(0).is_empty());
}

#[test]
fn frames_of_several_sizes_are_refused() {
    let frame = |size: [i64; 3]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let told = |frames: &[Tensor]| animation::write(Path::new("none.png"), frames).unwrap_err().to_string();
    assert!(told(&[]).starts_with("a frame has shape []"));
    assert!(told(&[frame([1, 4, 4]), frame([1, 4, 5])]).starts_with("a frame has shape [1, 4, 5]"));
    assert!(told(&[frame([2, 4, 4])]).starts_with("a frame has shape [2, 4, 4]"));
    assert!(!Path::new("none.png").exists());
}
