//! The bytes of scenes, and the labels of their pixels.

use super::*;

fn scenes(side: usize) -> Scenes {
    Scenes { count: 20, side, split: Split::Test, seed: 5 }
}

/// Runs and figures are compared over versions of the program.
#[test]
fn scenes_stay_what_they_are() {
    let places = [(0, 12), (7, 64), (19, 33), (3, 1), (12, 48)];
    let sums = places.map(|(index, side)| crc32c::crc32c(&scenes(side).draw(index).pixels));
    assert_eq!(sums, [2986473797, 3461466993, 515092351, 3979825174, 3230527262]);
}

/// White shapes on black, without anything else: a pixel is light where its label says so.
#[test]
fn labels_are_where_the_shape_is() {
    for (index, side) in (0..20).flat_map(|i| [(i, 9), (i, 64)]) {
        let scenes = scenes(side);
        let mut scene = scenes.scene(index);
        (scene.fill, scene.background) = ([1.0; 3], [[0.0; 3]; 2]);
        (scene.light, scene.gain, scene.grain) = ([0.0; 2], 1.0, 0.0);
        scene.specks.clear();
        let class = 1 + scenes.label(index) as u8;
        let plain = scene.render(side);
        let light = plain.pixels.chunks(3).map(|pixel| if pixel[0] >= 128 { class } else { 0 });
        let (image, labels) = scenes.draw_pair(index);
        assert!(light.eq(labels.values.iter().copied()), "scene {index} at {side}");
        assert_eq!(image, scenes.draw(index));
        assert!(usize::from(class) < Scenes::pixel_classes().len());
    }
    let names = Scenes::pixel_classes();
    assert_eq!((names.len(), &*names[0], &*names[1]), (11, "background", "disc"));
}
