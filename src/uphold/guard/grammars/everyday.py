"""Everyday instructions, made from a small grammar: what people ask an assistant all day, harmless all of it.

A guard is mostly shown questions that are close to harm; without plain instructions beside them it takes unfamiliar ones for harm. Here
are commands to write, list, explain, rewrite, sort, plan and compute, with and without an input to work on, over ordinary subjects
and over ones that merely sound dark (wars, poisons, crimes in novels, illnesses). Gives `Sample`s for training, all benign. Left out:
every set of prompts that is used for measuring; the phrases were written for this grammar.
"""

# ruff: noqa: E501
from __future__ import annotations

import random
import re

from uphold.core.records import Message, Sample
from uphold.core.seeds import derive

NAME = "builtin:everyday-requests"

_SLOTS: dict[str, tuple[str, ...]] = {
    "topic": (
        "solar power", "black holes", "the water cycle", "photosynthesis", "inflation", "supply and demand", "machine learning", "cloud computing",
        "plate tectonics", "the human heart", "recycling", "electric cars", "public transport", "remote work", "time management", "healthy eating",
        "meditation", "jazz music", "impressionist painting", "the Roman Empire", "the Industrial Revolution", "the French Revolution", "the moon landing",
        "the Great Barrier Reef", "bees and pollination", "compound interest", "credit scores", "blockchain", "quantum computers", "3D printing",
        "nuclear energy", "gene editing", "antibiotics", "sleep", "social media", "online privacy", "renewable energy", "climate change", "volcanoes",
        "the stock market", "home insulation", "the Olympic Games", "chess openings", "football tactics", "the sense of smell", "memory", "friendship",
        "leadership", "customer loyalty", "teamwork", "email marketing", "data privacy", "neural networks", "relational databases", "the internet of things",
        "gravity", "evolution", "the ozone layer", "coral bleaching", "urban farming", "fair trade", "minimum wages", "democracy", "the rule of law",
        "double-entry bookkeeping", "the French subjunctive", "haiku", "science fiction", "the violin", "sourdough bread", "fermentation", "tea ceremonies",
    ),
    "dark": (
        "the causes of the First World War", "how poisons are detected in the blood", "the Black Death", "famous bank robberies in films", "how vaccines train the immune system",
        "the history of gunpowder", "the fall of Pompeii", "why people join cults", "how forest fires spread", "the psychology of fear", "how locks work",
        "drug interactions a pharmacist looks for", "the trial of Socrates", "how police dogs are trained", "the sinking of the Titanic", "shark attacks and how rare they are",
        "the plot of Hamlet", "the effects of alcohol on the liver", "how a virus infects a cell", "prison reform in Norway", "how counterfeit notes are recognised",
        "the Cold War arms race", "computer viruses of the eighties", "how firewalls work", "the dangers of smoking", "how bullying affects children",
        "the Salem witch trials", "how bomb squads use robots", "the ethics of hunting", "assassinations in ancient Rome", "how hospitals prevent infections",
        "the opioid crisis and public health", "how credit card fraud is detected", "the death of stars", "predators of the savanna", "pest control without chemicals",
        "how a killer whale hunts", "how to kill a process in Linux", "how to shoot a good portrait", "what makes a joke land or bomb", "stealing bases in baseball",
    ),
    "place": (
        "Paris", "Kyoto", "a small village", "the Alps", "New York City", "Iceland", "a tropical island", "Cape Town", "Lisbon", "Mumbai", "the Sahara", "Mexico City",
        "the Scottish Highlands", "Vietnam", "a farm", "Buenos Aires", "Prague", "California", "the Baltic coast", "Melbourne",
    ),
    "animal": ("dog", "cat", "parrot", "elephant", "penguin", "horse", "octopus", "tortoise", "hedgehog", "owl", "dolphin", "hamster", "goldfish", "wolf", "bee", "camel"),
    "food": ("pancakes", "lentil soup", "a birthday cake", "vegetable curry", "apple pie", "a quick pasta dinner", "tomato salad", "banana bread", "roast potatoes", "ramen", "a vegan burger", "fish tacos"),
    "person": ("Marie Curie", "Leonardo da Vinci", "Nelson Mandela", "Ada Lovelace", "Charles Darwin", "Jane Austen", "Albert Einstein", "Cleopatra", "Mozart", "Rosa Parks", "Isaac Newton", "Frida Kahlo", "Abraham Lincoln", "Confucius", "Amelia Earhart", "Alan Turing"),
    "product": ("a water bottle", "a budgeting app", "noise-cancelling headphones", "a coffee subscription", "a folding bicycle", "a smart lamp", "running shoes", "an online language course", "a pet sitting service", "a vegetarian restaurant", "a notebook made of stone paper", "a home gym", "a travel pillow", "an electric toothbrush"),
    "job": ("a nurse", "a software engineer", "a primary school teacher", "a barista", "a data analyst", "an accountant", "a graphic designer", "a receptionist", "a project manager", "an electrician", "a librarian", "a sales assistant", "a chef", "a journalist"),
    "audience": ("a five-year-old", "a beginner", "a group of teenagers", "busy parents", "new employees", "retired people", "first-year students", "a non-technical manager", "tourists", "somebody who has never heard of it"),
    "event": ("a birthday party", "a team retreat", "a wedding", "a charity run", "a book club", "a school trip", "a product launch", "a camping trip", "a farewell dinner", "a science fair", "a garden party", "a job interview", "a move to a new flat", "a road trip"),
    "skill": ("play the guitar", "swim", "juggle", "touch-type", "speak in public", "learn Spanish", "draw faces", "bake bread", "save money", "run a marathon", "write clearly", "knit a scarf", "train a puppy", "negotiate a salary", "stay focused", "grow tomatoes", "change a flat tyre", "tie a tie", "fold a fitted sheet", "clean a keyboard"),
    "feeling": ("joy", "nostalgia", "loneliness", "gratitude", "jealousy", "hope", "boredom", "courage", "grief", "anger", "curiosity"),
    "form": ("a short poem", "a haiku", "a limerick", "a short story", "a paragraph", "a blog post", "a tweet", "a song verse", "a dialogue", "an essay of 300 words", "a slogan", "a product description", "a press release", "a news headline", "an opening line", "a fairy tale", "a speech", "a letter", "a script for a short video"),
    "tone": ("a friendly tone", "a formal tone", "simple words", "a humorous style", "the second person", "the past tense", "the active voice", "fewer words", "the style of a news report", "polite language"),
    "n": ("three", "five", "ten", "four", "six", "two", "seven", "a dozen", "3", "5", "10"),
    "lang": ("French", "Spanish", "German", "Italian", "Japanese", "Portuguese", "Mandarin", "Dutch", "Swahili", "Hindi"),
    "code": ("Python", "JavaScript", "Java", "SQL", "C++", "Ruby", "Go", "HTML and CSS", "R", "TypeScript"),
    "algorithm": (
        "reverses a string", "checks whether a number is prime", "sorts a list of numbers", "counts the vowels in a word", "computes the factorial of a number", "finds the largest element of an array",
        "merges two dictionaries", "removes duplicates from a list", "converts Celsius to Fahrenheit", "checks whether a word is a palindrome", "prints the Fibonacci numbers up to 100",
        "computes the average of a column", "splits a sentence into words", "generates random numbers between 1 and 50", "parses a date", "validates an email address", "draws a bar chart", "calculates the area of a circle",
    ),
    "sentence": (
        "The cat sat on the mat.", "I has been working here since five years.", "She dont like apples but she eat them anyway.", "The meeting was long and boring.", "Our company offers the best service in town.",
        "The quick brown fox jumps over the lazy dog.", "He said that he will come tomorrow.", "Their going to the store to buy there groceries.", "The results of the experiment was surprising.",
        "It is raining, we will stay home.", "The new phone has a big screen and a long battery life.", "My brother and me went to the cinema.", "I am very very happy about the news.", "The food was delicious, but the service was slow.",
        "Climate change is a serious problem that affects everyone.", "The children played in the park until the sun went down.", "We regret to inform you that the event has been cancelled.", "This film made me laugh and cry at the same time.",
        "The train leaves at 9:15 from platform four.", "Technology has changed the way we communicate.", "Despite the storm, the sailors reached the harbour.", "He walked slow towards the door.", "The murder mystery kept me up all night.",
        "The general ordered his troops to attack at dawn.", "Her death shocked the whole village.", "The dog bit the postman, who was not hurt.",
    ),
    "words": (
        "apple, carrot, banana, potato", "lion, sparrow, salmon, frog", "red, circle, blue, square", "run, jump, happy, slowly", "Mercury, Venus, Pluto, Mars", "guitar, flute, drum, violin", "iron, oxygen, gold, helium",
        "doctor, teacher, hammer, saw", "12, 7, 23, 4, 18", "3, 9, 27, 81", "2, 4, 8, 16", "Spain, Peru, Kenya, Laos", "knife, fork, spoon, cup", "poison, medicine, bandage, pill", "rose, oak, tulip, pine", "sword, shield, bow, helmet",
        "war, peace, love, hate", "happy, glad, sad, gloomy", "pen, eraser, paper, desk", "car, bicycle, aeroplane, boat",
    ),
    "pair": ("cats and dogs", "tea and coffee", "city life and country life", "books and films", "renting and buying", "Python and Java", "crocodiles and alligators", "viruses and bacteria", "weather and climate", "empathy and sympathy", "a meteor and a comet", "debit and credit cards", "capitalism and socialism", "assault and battery in law", "murder and manslaughter", "a rifle and a musket in a museum"),
    "text": (
        "The town council voted on Tuesday to plant two hundred trees along the river. Residents welcomed the plan but asked who would water them.",
        "Sales rose by four per cent in the spring. The growth came from online orders, while the shops sold less than last year.",
        "Anna found an old map in her grandmother's attic. It showed a path through the woods that nobody in the village had ever heard of.",
        "Honey bees dance to tell each other where the flowers are. The angle of the dance shows the direction, its length the distance.",
        "Police are looking for a man who robbed a jeweller on Friday. Nobody was hurt. Witnesses are asked to come forward.",
        "The hospital reported fewer infections after the staff were trained again in washing their hands.",
        "The product arrived late and the box was damaged, but the customer service was friendly and sent a new one at once.",
        "The volcano erupted without warning in 1902. Within minutes the city below was destroyed.",
        "Regular exercise strengthens the heart, improves the mood and helps people sleep.",
        "Two armies met on the plain in the early morning. By noon the battle was over and the old king was dead.",
        "Dear team, the office will be closed on Monday. Please take your plants home.",
        "The company said that hackers had copied the addresses of some customers. Passwords were not affected.",
    ),
    "question": (
        "What is the capital of Australia?", "Who wrote Pride and Prejudice?", "How many bones does an adult have?", "What causes the tides?", "Why is the sky blue?", "When did the Berlin Wall fall?", "What is the square root of 144?",
        "What is the largest ocean?", "How long does light take from the sun to the earth?", "What does DNA stand for?", "Who painted the Mona Lisa?", "What is the boiling point of water at sea level?", "Which country has won the most World Cups?",
        "What is the difference between a noun and a verb?", "How many minutes are there in a week?", "What does a kidney do?", "Who was the first person on the moon?", "What is the chemical symbol of silver?", "Why do leaves change colour in autumn?",
        "What is the longest river in the world?", "Why do cats purr?", "What currency is used in Japan?", "What was the deadliest war in history?", "What is the most venomous snake?", "How does a fire extinguisher work?", "What are the symptoms of carbon monoxide poisoning?",
    ),
    "sum": ("15% of 240", "the area of a rectangle of 4 m by 7 m", "the sum of the first ten odd numbers", "3/4 + 5/8", "the average of 4, 8, 15 and 16", "the speed of a train that goes 180 km in two hours", "x if 2x + 3 = 11", "the volume of a cube with sides of 3 cm", "7 factorial", "the cost of six pens at 1.25 each", "the probability of rolling two sixes"),
    "genre": ("a detective story", "a romance", "a ghost story", "a western", "a pirate adventure", "a spy thriller", "a fable", "a fantasy novel", "a comedy", "a war novel", "a zombie film", "a courtroom drama"),
    "character": ("a shy inventor", "a retired thief who wants to make amends", "a talking teapot", "a lighthouse keeper", "two rival chefs", "a detective who is afraid of the dark", "a robot that learns to paint", "a girl who finds a dragon's egg", "a vampire who works as a dentist", "an assassin who gives up his trade to grow roses", "a lost astronaut", "twins who swap places"),
    "aim": (
        "develop my critical thinking skills", "improve my memory", "deal with stress", "sleep better", "lose fat around the waist", "make friends in a new city", "get over a break-up", "stop procrastinating", "become more confident", "talk to my teenager", "ask for a raise",
        "use cultural studies in my essay", "teach cultural differences in class", "use probability theory to settle a bet on dice", "design a fair opinion poll", "explain evolution to a sceptic", "motivate students to work together", "make the curriculum more varied", "cite sources correctly", "check whether a text was plagiarised",
        "reduce the waste of my company", "comply with environmental rules", "attract investors to a small firm", "keep customers loyal", "negotiate with suppliers", "read a balance sheet", "pay less for electricity", "prepare my tax return", "dispute a wrong bill", "invest a small sum safely", "recognise insider trading",
        "protect my laptop against malware", "get back into my own account", "choose a strong password", "block spam calls", "stop neighbours from using my wireless network", "find out who owns a website", "delete old photos from my phone for good", "kill a frozen program", "crack an egg with one hand", "crack a nut without a tool",
        "treat a minor burn", "remove a splinter", "lower a fever in a child", "spot the signs of a stroke", "help somebody who is having a panic attack", "prevent infections at home", "dispose of old medicine", "store cleaning products safely", "get rid of ants", "keep mice out of the attic", "put out a grease fire",
        "win an argument politely", "persuade my introverted friend to speak at an event", "convince my parents to let me travel", "break the ice at a party", "beat my brother at chess", "attack with the King's Gambit", "shoot better free throws", "steal the show at karaoke", "destroy the competition in a pub quiz", "execute a perfect handstand",
        "build a raft for a school race", "make a volcano for the science fair", "grow crystals", "forge a horseshoe as a hobby", "pick a good melon", "pick up the guitar again", "poach an egg", "smoke a ham", "whip cream", "bleach a white shirt", "open a jar that is stuck", "open a door that sticks", "hack together a shelf from boxes",
        "assess whether a news article can be trusted", "detect bias in a study", "talk about racism in class", "understand why people join extremist groups", "write a crime novel that is plausible", "discuss war with children", "manipulate the exposure of a photo", "exploit the strengths of my team", "launch a charity", "influence local politics as a citizen",
    ),
}  # fmt: skip
_AIM_QUESTIONS: tuple[str, ...] = ("How can I {aim}?", "How do I {aim}?", "How to {aim}?", "What is the best way to {aim}?", "How can we {aim}?", "What are the most effective ways to {aim}?", "Give me {n} ways to {aim}.", "Is there a simple way to {aim}?", "how can i {aim}", "Tell me how to {aim}.", "I want to {aim}. Where do I start?", "Write a short guide: how to {aim}.", "Who can help me to {aim}?", "What happens if I try to {aim}?", "Provide step-by-step instructions on how to {aim}.")  # fmt: skip

_TASKS: tuple[str, ...] = (
    "Write {form} about {topic}.", "Write {form} about {feeling}.", "Write {form} about {animal_a} that {odd}.", "Compose {form} on the theme of {feeling}.", "Create {form} for {product}.",
    "Generate {form} about {place}.", "Explain {topic} to {audience}.", "Explain {dark}.", "Describe {dark} in two sentences.", "Give me a short overview of {dark}.", "Write {form} about {dark}.",
    "What are the main ideas behind {topic}?", "List {n} facts about {topic}.", "List {n} facts about {dark}.", "Name {n} advantages and disadvantages of {topic}.", "Give {n} examples of {feeling} in literature.",
    "Summarise {topic} in one sentence.", "Summarise the life of {person}.", "Write a biography of {person} in 100 words.", "What did {person} do for the world?", "Imagine a conversation between {person} and {person}.",
    "Suggest {n} things to do in {place}.", "Plan a {n}-day trip to {place}.", "Describe the weather in {place} in spring.", "Describe a typical morning in {place}.", "What should I pack for {place}?",
    "Give me a recipe for {food}.", "List the ingredients of {food}.", "How do I make {food} without eggs?", "Suggest a side dish for {food}.", "How long does it take to make {food}?",
    "Give {n} tips on how to {skill}.", "How can I {skill}?", "Make a weekly schedule for somebody who wants to {skill}.", "What is the best way to {skill}?", "Describe step by step how to {skill}.", "Suggest {n} books for people who want to {skill}.",
    "Write a cover letter for {job}.", "Write a job advertisement for {job}.", "List {n} questions to ask {job} in an interview.", "What does {job} do all day?", "Describe the skills that {job} needs.",
    "Come up with a name for {product}.", "Write a slogan for {product}.", "Write a customer review of {product}.", "How would you market {product} to {audience}?", "List {n} selling points of {product}.",
    "Make a checklist for {event}.", "Write an invitation to {event}.", "Suggest {n} ideas for {event}.", "Write a thank-you note after {event}.", "Create a budget for {event}.",
    "Compare {pair}.", "What is the difference between {pair}?", "Make a table that compares {pair}.", "Argue for one side: {pair}.",
    "Write a {code} function that {algorithm}.", "Write code in {code} that {algorithm}.", "How would I write a {code} program that {algorithm}?", "Explain what this means in {code}: list comprehension, loop or class.",
    "Translate the following sentence into {lang}.\n{sentence}", "Rewrite the following sentence in {tone}.\n{sentence}", "Correct the grammar of the following sentence.\n{sentence}", "Is the following sentence active or passive?\n{sentence}",
    "Find the verb in the following sentence.\n{sentence}", "Classify the sentiment of this sentence as positive, negative or neutral.\n{sentence}", "Write the next sentence.\n{sentence}", "Make the sentence longer with more detail.\n{sentence}",
    "Turn this statement into a question.\n{sentence}", "Replace the adjectives in the sentence with stronger ones.\n{sentence}", "Identify the tense.\n{sentence}", "How many words does this sentence have?\n{sentence}",
    "Which word does not belong with the others?\n{words}", "Sort these words by the alphabet.\n{words}", "Group the following items.\n{words}", "What do these have in common?\n{words}", "Write a sentence with all of these words.\n{words}", "Continue the list.\n{words}",
    "Summarise the following text.\n{text}", "Give the following text a title.\n{text}", "Write {n} questions about this passage.\n{text}", "Shorten this passage to one sentence.\n{text}", "Rewrite the passage in {tone}.\n{text}", "List the key points.\n{text}",
    "Translate into {lang}: {text}", "What is the mood of this paragraph?\n{text}", "Proofread this.\n{text}",
    "{question}", "{question}", "{question}", "Answer in one sentence: {question}", "Answer the question and explain.\n{question}", "Quiz me: {question}", "Calculate {sum}.", "What is {sum}?", "Show the steps to work out {sum}.",
    "Write the opening of {genre} about {character}.", "Outline the plot of {genre} with {character}.", "Write a scene in which {character} meets {character}.", "Suggest a title for {genre} about {character}.", "Describe {character} in three sentences.", "Write a twist ending for {genre}.",
    "Give me a synonym for {feeling}.", "Use {feeling} in a sentence.", "Write a metaphor for {feeling}.", "How do I deal with {feeling}?", "What is the opposite of {feeling}?", "Write a dialogue in which a friend talks about {feeling}.",
    "Describe the life cycle of a {animal}.", "What do I feed a {animal}?", "Write a riddle whose answer is a {animal}.", "Give a {animal} a funny name.", "Why would a {animal} make a good or bad pet?",
    "Tell me a joke about {job}.", "Tell me something surprising about {topic}.", "Make up a word for {feeling} on a Monday and define it.", "Write a multiple-choice question about {topic} with four options.", "Create a quiz on {topic} with {n} questions.", "Make a mind map of {topic} as a bulleted list.",
    "Predict how {topic} will change in the next twenty years.", "What would the world be like without {topic}?", "Who benefits from {topic}?", "Design a poster about {topic}.", "Write a lesson plan on {topic} for {audience}.", "Write a reply to a customer who is unhappy with {product}.",
    "Write an email to {job} asking for a meeting about {topic}.", "Draft an apology to a colleague for missing {event}.", "Name a film that deals with {feeling}.", "Suggest a hashtag for {event}.", "Invent a board game about {topic}.", "Recommend {n} songs for {event}.",
    "Given that it is Tuesday, what day is it in {n} days?", "Convert {n} miles to kilometres.", "Write an acrostic from the word {feeling}.", "Give an analogy for {topic}.", "What is a common myth about {topic}?", "Do a SWOT analysis of {product}.",
)  # fmt: skip
_ODD = (
    "cannot sleep",
    "learns to read",
    "moves to the city",
    "opens a bakery",
    "is afraid of water",
    "wants to be famous",
    "finds a key",
    "saves a village",
    "runs for mayor",
    "steals a kiss and a sandwich",
)
_MANNERS = ("{x}", "{x}", "{x}", "{x}", "{x}", "Please {l}", "Can you help me with this? {x}", "{l}", "I need this for tomorrow. {x}", "{x} Keep it short.", "{x} Use bullet points.", "Task: {x}", "You are a helpful assistant. {x}", "{x} Give reasons.", "hey, {l}")  # fmt: skip


def samples(n: int = 1500, seed: int = 0) -> list[Sample]:
    """n different harmless instructions, each a group of its own. Deterministic."""
    rng = random.Random(derive(seed, NAME))
    found: dict[str, None] = {}
    while len(found) < n:
        found.setdefault(_one(rng))
    return [
        Sample(
            messages=(Message(role="user", content=text),),
            label="benign",
            group=f"everyday:{i}",
            meta={"source": NAME, "lang": "en", "kind": "ordinary"},
        )
        for i, text in enumerate(found)
    ]


def _one(rng: random.Random) -> str:
    task = rng.choice(_AIM_QUESTIONS if rng.random() < 0.3 else _TASKS).replace(
        "{animal_a}", f"{_article(a := rng.choice(_SLOTS['animal']))} {a}"
    )
    text = re.sub(r"\{(\w+)\}", lambda m: rng.choice(_ODD if m[1] == "odd" else _SLOTS[m[1]]), task)
    manner = rng.choice(_MANNERS)
    if "\n" in text and "{x} " in manner:
        manner = "{x}"
    return manner.replace("{x}", text).replace("{l}", text[:1].lower() + text[1:])


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
