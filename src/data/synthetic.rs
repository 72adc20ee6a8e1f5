//! Procedurally drawn scenes: pictures to train on when there are none.
//!
//! A scene is one large shape on a textured background, with a few specks, a shadow, uneven light
//! and grain. The class is the shape. Colours, texture, size, place, angle and light say nothing
//! about it, so little of the class can be read off the mean colour or off local texture: a
//! representation has to know how edges far apart belong together, which is what masked prediction
//! teaches. Everything follows from (seed, split, index), at any size in pixels.

use super::image::Image;
use super::labels::Labels;
use super::split::Split;
use crate::rng::{Philox, Purpose};

/// Name and maker of a shape.
type Shape = (&'static str, fn() -> Outline);

/// Classes in the order of their labels. The radii give all shapes about the same area (2.2), so
/// that no class is brighter than another.
const SHAPES: [Shape; 10] = [
    ("disc", || Outline::Round { outer: 0.84, hole: None }),
    ("ring", || Outline::Round { outer: 0.98, hole: Some((0.5, 0.0)) }),
    ("crescent", || Outline::Round { outer: 1.08, hole: Some((0.8, 0.6)) }),
    ("square", || Outline::polygon(4, |_| 1.05)),
    ("frame", || Outline::Frame(Box::new(Outline::polygon(4, |_| 0.98)), 0.2)),
    ("triangle", || Outline::polygon(3, |_| 1.3)),
    ("star", || Outline::polygon(10, |i| if i % 2 == 0 { 1.25 } else { 0.6 })),
    ("cross", cross),
    ("heart", heart),
    ("bars", || Outline::Bars),
];

type Vec2 = [f32; 2];
type Colour = [f32; 3];

/// A numbered list of scenes.
#[derive(Clone, Debug)]
pub struct Scenes {
    /// How many.
    pub count: usize,
    /// Height and width in pixels.
    pub side: usize,
    /// Scenes of different splits share nothing.
    pub split: Split,
    /// Number that everything follows from.
    pub seed: u64,
}

impl Scenes {
    /// Names of the classes.
    pub fn class_names() -> Vec<String> {
        SHAPES.iter().map(|(name, _)| (*name).to_string()).collect()
    }

    /// Class of a scene: they take turns, so every count is balanced.
    pub fn label(&self, index: usize) -> u32 {
        (index % SHAPES.len()) as u32
    }

    /// Names of the classes of pixels: the background, and the classes of the scenes.
    pub fn pixel_classes() -> Vec<String> {
        let background = std::iter::once("background".to_owned());
        background.chain(Self::class_names()).collect()
    }

    /// Draws a scene.
    pub fn draw(&self, index: usize) -> Image {
        self.scene(index).render(self.side)
    }

    /// Draws a scene, and says which of its pixels show the shape: those whose middle lies inside its edge.
    /// Specks and shadows are background.
    pub fn draw_pair(&self, index: usize) -> (Image, Labels) {
        let scene = self.scene(index);
        let labels = scene.labels(self.side, 1 + self.label(index) as u8);
        (scene.render(self.side), labels)
    }

    fn scene(&self, index: usize) -> Scene {
        let split = match self.split {
            Split::Train => 0,
            Split::Test => 1,
        };
        let mut rng = Philox::new(self.seed, Purpose::Scene, split, index as u32);
        let outline = SHAPES[self.label(index) as usize].1();
        Scene::draw(outline, &mut rng)
    }
}

/// The edge of a shape, about as large as the unit circle.
enum Outline {
    /// A disc, with a hole of some radius that is shifted to the right.
    Round {
        outer: f32,
        hole: Option<(f32, f32)>,
    },
    Polygon(Vec<Vec2>),
    /// A band of some half width along the edge of another shape.
    Frame(Box<Outline>, f32),
    /// Three parallel bars.
    Bars,
}

fn cross() -> Outline {
    let (a, b) = (0.35, 0.97);
    let arm = [[a, -a], [b, -a], [b, a]];
    let turn = |[x, y]: Vec2, quarter: usize| {
        [[x, y], [-y, x], [-x, -y], [y, -x]][quarter] // counter-clockwise
    };
    Outline::Polygon((0..4).flat_map(|q| arm.map(|p| turn(p, q))).collect())
}

/// The curve (16 sin³t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t), centred.
fn heart() -> Outline {
    let point = |i: usize| {
        let t = std::f32::consts::TAU * i as f32 / 24.0;
        let c = |k: f32| libm::cosf(k * t);
        let x = 16.0 * libm::sinf(t) * libm::sinf(t) * libm::sinf(t);
        let y = 13.0 * c(1.0) - 5.0 * c(2.0) - 2.0 * c(3.0) - c(4.0);
        [x / 16.0, -(y + 2.5) / 15.0] // rows count downwards
    };
    Outline::Polygon((0..24).map(point).collect())
}

fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

impl Outline {
    fn polygon(corners: usize, radius: impl Fn(usize) -> f32) -> Self {
        let corner = |i: usize| {
            let t = std::f32::consts::TAU * i as f32 / corners as f32;
            [radius(i) * libm::sinf(t), -radius(i) * libm::cosf(t)]
        };
        Self::Polygon((0..corners).map(corner).collect())
    }

    /// Signed distance to the edge, negative inside.
    fn distance(&self, [x, y]: Vec2) -> f32 {
        match self {
            Self::Round { outer, hole: None } => length(x, y) - outer,
            Self::Round { outer, hole: Some((radius, shift)) } => {
                (length(x, y) - outer).max(radius - length(x - shift, y))
            }
            Self::Frame(outline, half) => outline.distance([x, y]).abs() - half,
            Self::Bars => {
                // One bar serves for three: fold the outer ones onto the middle.
                let y = y - 0.68 * (y / 0.68).round().clamp(-1.0, 1.0);
                (x.abs() - 0.95).max(y.abs() - 0.19)
            }
            Self::Polygon(corners) => {
                let mut nearest = f32::INFINITY;
                let mut inside = false;
                let mut a = corners[corners.len() - 1];
                for &b in corners {
                    let (ex, ey, px, py) = (b[0] - a[0], b[1] - a[1], x - a[0], y - a[1]);
                    let t = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
                    let (dx, dy) = (px - t * ex, py - t * ey);
                    nearest = nearest.min(dx * dx + dy * dy);
                    // A ray to the right crosses this edge.
                    if (a[1] > y) != (b[1] > y) && px * ey.signum() < py * ex / ey.abs() {
                        inside = !inside;
                    }
                    a = b;
                }
                if inside { -nearest.sqrt() } else { nearest.sqrt() }
            }
        }
    }
}

/// Lattice of a background's random heights.
const LATTICE: usize = 8;

/// A pattern with values in 0..1.
enum Texture {
    /// A sine grating, bent by another.
    Waves { across: Vec2, bend: Vec2 },
    /// Soft squares.
    Checks { u: Vec2, v: Vec2 },
    /// Spots on a skewed grid.
    Spots { u: Vec2, v: Vec2 },
    /// Smooth random hills, two octaves.
    Hills { scale: f32, heights: Vec<f32> },
}

fn dot(a: Vec2, b: Vec2) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

impl Texture {
    fn draw(rng: &mut Philox) -> Self {
        let mut vector = |lo: f64, hi: f64| {
            let (r, t) =
                (rng.uniform(lo, hi) as f32, rng.uniform(0.0, std::f64::consts::TAU) as f32);
            [r * libm::cosf(t), r * libm::sinf(t)]
        };
        let u = vector(5.0, 13.0);
        let bend = vector(1.0, 4.0);
        match rng.integer(3) {
            0 => Self::Waves { across: u, bend },
            1 => Self::Checks { u, v: [-u[1], u[0]] },
            2 => Self::Spots { u, v: [0.3 * u[0] - u[1], 0.3 * u[1] + u[0]] },
            _ => Self::Hills {
                scale: rng.uniform(1.5, 3.5) as f32,
                heights: (0..LATTICE * LATTICE).map(|_| rng.unit() as f32).collect(),
            },
        }
    }

    fn at(&self, p: Vec2) -> f32 {
        let sin = libm::sinf;
        match self {
            Self::Waves { across, bend } => 0.5 + 0.5 * sin(dot(*across, p) + sin(dot(*bend, p))),
            Self::Checks { u, v } => {
                (0.5 + 2.0 * sin(dot(*u, p)) * sin(dot(*v, p))).clamp(0.0, 1.0)
            }
            Self::Spots { u, v } => (sin(dot(*u, p)) + sin(dot(*v, p)) - 0.4).clamp(0.0, 1.0),
            Self::Hills { scale, heights } => {
                let octave = |s: f32| hills(heights, [(p[0] + 2.0) * s, (p[1] + 2.0) * s]);
                0.65 * octave(*scale) + 0.35 * octave(2.3 * scale)
            }
        }
    }
}

/// Random heights between lattice points, smoothly interpolated and repeated.
fn hills(heights: &[f32], [x, y]: Vec2) -> f32 {
    let (cell_x, cell_y) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(x - cell_x), ease(y - cell_y));
    let at = |dx: usize, dy: usize| {
        heights[(cell_y as usize + dy) % LATTICE * LATTICE + (cell_x as usize + dx) % LATTICE]
    };
    let top = at(0, 0) + tx * (at(1, 0) - at(0, 0));
    let bottom = at(0, 1) + tx * (at(1, 1) - at(0, 1));
    top + ty * (bottom - top)
}

/// Everything about a scene, in coordinates from -1 to 1.
struct Scene {
    outline: Outline,
    centre: Vec2,
    size: f32,
    /// Cosine and sine of the shape's angle.
    turn: Vec2,
    fill: Colour,
    background: [Colour; 2],
    texture: Texture,
    /// Change of brightness per unit of length.
    light: Vec2,
    gain: f32,
    shadow: Vec2,
    specks: Vec<(Vec2, f32, Colour)>,
    grain: f32,
    noise: Philox,
}

/// The middle of a pixel.
fn middle(row: usize, column: usize, side: usize) -> Vec2 {
    let pixel = 2.0 / side as f32;
    [(column as f32 + 0.5) * pixel - 1.0, (row as f32 + 0.5) * pixel - 1.0]
}

fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    std::array::from_fn(|c| a[c] + t * (b[c] - a[c]))
}

fn colour(rng: &mut Philox) -> Colour {
    std::array::from_fn(|_| rng.uniform(0.06, 0.94) as f32)
}

impl Scene {
    fn draw(outline: Outline, rng: &mut Philox) -> Self {
        // A dark background of two tones and a light shape: visible whatever the hues.
        let mut tone = |lo: f32| colour(rng).map(|c| lo + 0.5 * c);
        let (first, second, fill) = (tone(0.0), tone(0.0), tone(0.47));
        let other = mix(first, second, 0.6);
        let size = rng.uniform(0.48, 0.8) as f32;
        let room = f64::from(1.02 - size).max(0.0);
        let centre = [rng.uniform(-room, room) as f32, rng.uniform(-room, room) as f32];
        let angle = rng.uniform(-0.3, 0.3) as f32;
        let mut within = |limit: f64| rng.uniform(-limit, limit) as f32;
        let light = [within(0.22), within(0.22)];
        let shadow = [within(0.14), within(0.14)];
        let specks = (0..rng.integer(4))
            .map(|_| {
                let place = [rng.uniform(-1.0, 1.0) as f32, rng.uniform(-1.0, 1.0) as f32];
                (place, rng.uniform(0.05, 0.14) as f32, colour(rng))
            })
            .collect();
        Self {
            outline,
            centre,
            size,
            turn: [libm::cosf(angle), libm::sinf(angle)],
            fill,
            background: [first, other],
            texture: Texture::draw(rng),
            light,
            gain: rng.uniform(0.8, 1.1) as f32,
            shadow,
            specks,
            grain: rng.uniform(0.0, 0.05) as f32,
            noise: rng.clone(),
        }
    }

    /// Distance of a point to the shape's edge, negative inside.
    fn distance(&self, [x, y]: Vec2) -> f32 {
        let (x, y) = ((x - self.centre[0]) / self.size, (y - self.centre[1]) / self.size);
        let [c, s] = self.turn;
        self.size * self.outline.distance([c * x + s * y, c * y - s * x])
    }

    /// `class` where the shape is, 0 elsewhere.
    fn labels(&self, side: usize, class: u8) -> Labels {
        let label = |i: usize| {
            let inside = self.distance(middle(i / side, i % side, side)) < 0.0;
            if inside { class } else { 0 }
        };
        Labels::new(side, side, (0..side * side).map(label).collect())
    }

    fn render(mut self, side: usize) -> Image {
        let pixel = 2.0 / side as f32;
        // Share of a pixel that lies inside an edge at this distance.
        let inside = |distance: f32| (0.5 - distance / pixel).clamp(0.0, 1.0);
        let mut pixels = Vec::with_capacity(side * side * 3);
        for row in 0..side {
            for column in 0..side {
                let p = middle(row, column, side);
                let mut c = mix(self.background[0], self.background[1], self.texture.at(p));
                for &(place, radius, paint) in &self.specks {
                    c = mix(c, paint, inside(length(p[0] - place[0], p[1] - place[1]) - radius));
                }
                let shaded = self.distance([p[0] - self.shadow[0], p[1] - self.shadow[1]]);
                c = mix(c, [0.0; 3], 0.4 * (0.5 - shaded / 0.12).clamp(0.0, 1.0));
                c = mix(c, self.fill, inside(self.distance(p)));
                let lit = self.gain + dot(self.light, p);
                let noise = self.grain * (self.noise.unit() as f32 - 0.5);
                pixels.extend(c.map(|c| ((c * lit + noise) * 255.0 + 0.5).clamp(0.0, 255.0) as u8));
            }
        }
        Image::new(side, side, pixels)
    }
}

#[cfg(test)]
mod tests;
