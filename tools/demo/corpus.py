"""A generator of short children's stories: the corpus of the demo model.

The stories come from two files beside this one: `plots.txt` (plots, told beat by beat in many
ways) and `words.txt` (word lists). A story keeps its facts: a name stays with its person, and the lost
item is the one that is found. The same seed always gives the same stories.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.demo.grammar import KINDS, capitalize, load_plots, load_words, parse, polish

HERE = Path(__file__).parent
PRONOUNS = {"girl": ("she", "her", "her"), "boy": ("he", "him", "his")}
SEX_OF = dict.fromkeys(("princess", "queen", "witch", "hen", "cow"), "girl")
SEX_OF |= dict.fromkeys(("prince", "king", "wizard", "rooster"), "boy")
KIND_WEIGHTS = (50, 37, 13)
REQUEST_CHANCE = 0.12
NEEDS_NAMES = re.compile("<(friendname|friendintro|introplain)>")
TAG = re.compile(r"<([\w.|]+)>")


@dataclass(frozen=True)
class Story:
    """One story, with the request for it if there is one."""

    text: str
    request: str = ""


@dataclass
class Person:
    """A person of a story: how to introduce, mention, and address them."""

    sex: str
    species: str
    plain: str
    first: str
    name: str
    call: str
    is_named: bool = True


class Teller:
    """Tells stories from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        """Load the plots and the words.

        Args:
            seed: Seed of all choices.
        """
        self.random = random.Random(seed)
        self.words = load_words(HERE / "words.txt")
        self.plots = load_plots(HERE / "plots.txt")
        self.facts: dict[str, str] = {}
        self.used: set[str] = set()
        self.people: dict[str, Person] = {}
        self.met: set[str] = set()

    def tell(self) -> Story:
        """Tell the next story."""
        choose, chance = self.random.choice, self.random.random
        self.facts, self.used, self.people, self.met = {}, set(), {}, set()
        kind = self.random.choices(KINDS, KIND_WEIGHTS)[0]
        topics = [name for name, plot in self.plots.items() if plot.beats and self.fits(name, kind)]
        topic = choose(topics)
        plot = self.plots[topic]
        self.cast(kind, needs_stranger="friendintronew" in str(plot.beats))
        is_pair = chance() < 0.2 and "friendintronew" not in str(plot.beats)
        hero, friend = self.people["hero"], self.people["friend"]
        if friend.first == friend.name and not is_pair:
            friend.first = f"{self.facts['his']} friend {friend.name}"
        beats: list[str] = []
        has_opening = chance() < 0.64
        if has_opening:
            beats.append(self.tell_beat(self.plots["pairopen" if is_pair else "open"].beats[0][1]))
        beats += self.tell_plot(topic)
        if not has_opening and hero.name not in beats[0].replace("The ", "the "):
            return self.tell()
        if kind != "fantasy" and chance() < 0.12:
            beats.append(self.expand("<between>"))
            others = [name for name in topics if name not in (topic, "newfriend", "school", "visitor")]
            beats += self.tell_plot(choose(others))
        if chance() < 0.45:
            beats.append(self.tell_beat(self.plots["close"].beats[0][1]))
        separators = [" "] * len(beats)
        if chance() < 0.25:
            separators = [choose([" ", " ", "\n\n"]) for _ in beats]
        text = polish("".join(map("".join, zip(beats, separators, strict=True))))
        request = self.ask(topic) if chance() < REQUEST_CHANCE else ""
        return Story(text, request)

    def tell_plot(self, topic: str) -> list[str]:
        """Tell the beats of one plot, and now and then a line about the weather."""
        plot = self.plots[topic]
        met = set(self.met)
        for name, template in plot.lets:
            self.facts[name] = self.expand(template)
        self.met = met
        self.words["moral"] = self.words[f"moral.{topic}"]
        beats = []
        for is_optional, ways in plot.beats:
            if not is_optional or self.random.random() < 0.7:
                beats.append(self.tell_beat(ways))
            if ways is not plot.beats[-1][1] and self.random.random() < 0.05:
                beats.append(self.tell_beat(["<nature>"]))
        return beats

    def fits(self, topic: str, kind: str) -> bool:
        """Say whether a plot suits a kind of hero; openings and endings suit none."""
        return topic not in ("open", "pairopen", "close") and kind in self.plots[topic].kinds

    def ask(self, topic: str) -> str:
        """Word a request for the story just told."""
        hero = self.people["hero"]
        named = f"a {hero.species} named {hero.call}" if hero.is_named else f"a {hero.species}"
        self.facts["about"] = self.random.choice([f"a {hero.species}", named, f"<topic.{topic}>"])
        request = self.expand(self.random.choice(self.words["request"]))
        return polish(self.expand(request))

    def tell_beat(self, ways: list[str]) -> str:
        """Tell one beat in one of its ways."""
        if not (self.people["hero"].is_named and self.people["friend"].is_named):
            ways = [way for way in ways if not NEEDS_NAMES.search(way)]
        return capitalize(self.expand(self.random.choice(ways)))

    def expand(self, template: str) -> str:
        """Replace the choices, then the tags, of a template from left to right."""
        text = "".join(node if isinstance(node, str) else self.choose_text(node) for node in parse(template))
        return TAG.sub(lambda match: self.look_up(match[1]), text)

    def choose_text(self, ways: list[str]) -> str:
        """Choose one template and resolve its choices, leaving its tags."""
        nodes = parse(self.random.choice(ways))
        return "".join(node if isinstance(node, str) else self.choose_text(node) for node in nodes)

    def look_up(self, tag: str) -> str:
        """Replace one tag: a fact, a person, or a fresh item of a word list (or of several, as in `a|b`)."""
        tag = self.random.choice(tag.split("|"))
        for name in (tag, tag.lower()):
            if name in self.people:
                text = self.people[name].name if name in self.met else self.people[name].first
                self.met.add(name)
            elif name in ("intro", "friendintro", "friendintronew"):
                self.met.add("hero" if name == "intro" else "friend")
                text = self.facts[name]
            elif name in self.facts:
                text = self.facts[name]
            elif name in self.words:
                text = self.draw(name)
            elif name.endswith("lc") and name[:-2] in self.words:
                text = self.draw(name[:-2])
                text = text[:1].lower() + text[1:]
            else:
                continue
            return text if name == tag else capitalize(text)
        raise KeyError(f"<{tag}> names no fact, person, or word list")

    def draw(self, name: str) -> str:
        """Draw an item that this story has not used yet, if there is one."""
        items = self.words[name]
        fresh = [item for item in items if item not in self.used] or items
        item = self.random.choice(fresh)
        self.used.add(item)
        return self.expand(item)

    def cast(self, kind: str, needs_stranger: bool) -> None:
        """Choose the place and the people of a story.

        Args:
            kind: Kind of the hero.
            needs_stranger: The friend is met only during the story.
        """
        place = self.draw(f"{kind}place")
        self.facts["where"] = self.expand(self.random.choice(self.words[f"{place}.where"]))
        self.words["spot"] = self.words[f"{place}.spot"]
        hero = self.make_hero(kind, place)
        self.pronouns("", hero.sex)
        has_wings = hero.species in self.words["wingspecies"]
        limb = "wing" if has_wings else "paw" if kind == "animal" else "hand"
        if kind == "animal" and hero.species in self.words["clawspecies"]:
            limb = "claw"
        elif kind == "animal" and hero.species in self.words["hoofspecies"]:
            limb = "hoof"
        self.facts |= {"hand": limb, "hands": {"hoof": "hooves"}.get(limb, limb + "s"), "kid": hero.species}
        self.facts |= {"introplain": hero.plain, "hcall": hero.call}
        self.facts["intro"] = f"{hero.plain} named {hero.call}" if hero.is_named else hero.plain
        self.people["hero"] = hero
        friend = self.make_friend(kind, place, needs_stranger)
        self.people["friend"] = friend
        self.pronouns("f", friend.sex)
        self.facts["fname"] = self.facts["friendname"] = friend.call
        self.cast_elders(kind)

    def make_hero(self, kind: str, place: str) -> Person:
        """Make the hero."""
        sex = self.random.choice(("girl", "boy"))
        if kind == "child":
            name = self.draw(sex)
            return Person(sex, sex, f"a {self.draw('childadj')} {sex}", name, name, name)
        species = self.draw("fantasy" if kind == "fantasy" else f"{place}.animal")
        sex = SEX_OF.get(species, sex)
        plain = f"a {self.draw('fantasyadj' if kind == 'fantasy' else 'animaladj')} {species}"
        if self.random.random() < 0.25:
            return Person(sex, species, plain, f"the {species}", f"the {species}", species, is_named=False)
        name = self.draw("petname") if kind == "animal" or self.random.random() < 0.5 else self.draw(sex)
        return Person(sex, species, plain, f"{name} the {species}", name, name)

    def make_friend(self, kind: str, place: str, is_stranger: bool) -> Person:
        """Make the hero's friend and the ways to bring them in."""
        sex = self.random.choice(("girl", "boy"))
        his = self.facts["his"]
        if kind == "animal":
            species, name = self.draw(f"{place}.animal"), self.draw("petname")
            plain = f"a {self.draw('animaladj')} {species}"
            relation = self.random.choice(("friend", "best friend"))
            firsts = [f"{his} friend {name} the {species}", f"{name} the {species}", f"{his} friend {name}"]
        else:
            species, name = sex, self.draw(sex)
            plain = f"a {self.draw('childadj')} {species}"
            relation = self.draw(f"relation.{sex}") if kind == "child" else "friend"
            firsts = [f"{his} {relation} {name}"] * 3 + [name]
        self.facts["friendintro"] = f"a {relation} named {name}"
        self.facts["friendintronew"] = f"{plain} named {name}"
        if is_stranger:
            return Person(sex, species, plain, self.facts["friendintronew"], name, name)
        if self.random.random() > 0.15:
            return Person(sex, species, plain, self.random.choice(firsts), name, name)
        if kind == "animal":
            return Person(sex, species, plain, plain, f"the {species}", f"the {species}", is_named=False)
        return Person(sex, species, plain, f"{his} {relation}", f"{his} {relation}", name, is_named=False)

    def cast_elders(self, kind: str) -> None:
        """Choose the elder and the passing helper."""
        sex = self.random.choice(("girl", "boy"))
        elder = self.draw(f"elder.{sex}" if kind == "child" else "elder.animal").partition(";")[0]
        self.people["elder"] = Person(sex, "elder", elder, elder, elder, elder)
        self.pronouns("e", sex)
        worker = self.draw("wiseanimal" if kind == "animal" else "worker")
        first = f"a {self.draw('animaladj' if kind == 'animal' else 'workeradj')} {worker}"
        self.people["other"] = Person(sex, worker, first, first, f"the {worker}", worker)
        self.pronouns("o", self.random.choice(("girl", "boy")))

    def pronouns(self, prefix: str, sex: str) -> None:
        """Set the pronouns of one person."""
        he, him, his = PRONOUNS[sex]
        self.facts |= {f"{prefix}he": he, f"{prefix}him": him, f"{prefix}his": his}
        self.facts[f"{prefix}himself"] = him + "self"


def stories(seed: int, n_story: int, seen: set[str] | None = None) -> Iterator[Story]:
    """Tell stories that are pairwise different.

    Args:
        seed: Seed of the stories.
        n_story: How many to tell.
        seen: Texts not to tell again; every text told is added.

    Yields:
        The stories.
    """
    teller = Teller(seed)
    seen = set() if seen is None else seen
    n_left = n_story
    while n_left:
        story = teller.tell()
        if story.text not in seen:
            seen.add(story.text)
            n_left -= 1
            yield story


def main() -> None:
    """Print some stories."""
    parser = argparse.ArgumentParser(description="Print some stories of the demo corpus.")
    parser.add_argument("--seed", type=int, default=1, help="seed of the stories")
    parser.add_argument("-n", type=int, default=5, help="how many stories")
    args = parser.parse_args()
    for story in stories(args.seed, args.n):
        print(f"[{story.request}]\n{story.text}\n" if story.request else f"{story.text}\n")


if __name__ == "__main__":
    main()
