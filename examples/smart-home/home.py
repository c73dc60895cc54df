"""A made-up home: areas, floors, devices by domain, and words for the free-text slots of the sentence templates."""

from __future__ import annotations

AREAS = (
    "kitchen", "living room", "bedroom", "bathroom", "office", "garage", "hallway", "basement", "attic", "nursery",
    "dining room", "guest room", "laundry room", "pantry", "playroom", "conservatory", "balcony", "workshop",
)  # fmt: skip
FLOORS = ("ground", "first", "second", "upper", "lower", "top")
DEVICES: dict[str, tuple[str, ...]] = {
    "light": ("chandelier", "bedside", "reading corner", "porch", "fairy", "stairs", "desk", "vanity"),
    "switch": ("coffee machine", "kettle", "christmas tree", "water heater", "towel warmer", "toaster"),
    "fan": ("ceiling fan", "tower fan", "extractor", "desk fan"),
    "media_player": ("tv", "soundbar", "hi-fi", "projector", "smart speaker", "radio"),
    "input_boolean": ("guest mode", "holiday mode", "alarm clock", "night watch"),
    "climate": ("thermostat", "air conditioner", "radiator", "heat pump"),
    "cover": ("roller blind", "patio awning", "left curtain", "skylight", "driveway gate"),
    "valve": ("sprinkler", "water main", "garden tap"),
    "lock": ("front door", "back door", "shed", "side gate", "safe"),
    "binary_sensor": ("mailbox", "freezer door", "motion detector", "cellar hatch", "driveway sensor"),
    "sensor": ("humidity", "power meter", "air quality", "rain gauge", "outdoor temperature"),
    "person": ("alice", "bob", "mia", "carlos", "grandma"),
    "scene": ("movie night", "romantic dinner", "party time", "early morning"),
    "script": ("bedtime routine", "leaving home", "wake up call", "cleanup"),
    "button": ("doorbell", "garage remote", "reset switch"),
    "input_button": ("panic", "feed the cat"),
    "vacuum": ("roomba", "robot cleaner", "dusty"),
    "lawn_mower": ("grass hopper", "shaun"),
    "todo": ("groceries", "chores", "packing", "hardware store"),
    "weather": ("london", "berlin", "home town", "the coast"),
}
FREE_TEXT: dict[str, tuple[str, ...]] = {
    "message": ("dinner is ready", "the bus leaves soon", "time for school", "grandma is here", "lunch is served"),
    "search_query": (
        "jazz",
        "abbey road",
        "the beatles",
        "morning news",
        "bohemian rhapsody",
        "lofi beats",
        "miles davis",
    ),
    "zone": ("work", "school", "the gym", "the office"),
    "timer_name": ("pizza", "laundry", "tea", "egg", "bread", "nap", "homework", "pasta"),
    "timer_command": (
        "turn off the oven",
        "open the blinds",
        "lock the front door",
        "turn on the tv",
        "stop the music",
    ),
    "shopping_list_item": ("milk", "bananas", "dish soap", "a dozen eggs", "coffee", "olive oil"),
    "todo_list_item": ("call the dentist", "batteries", "water the plants", "sunscreen", "fix the tap", "tomatoes"),
}
