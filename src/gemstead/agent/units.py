"""Converts a value between units: one table of kinds, exact factors, many spellings.

A spelling may belong to several kinds ('oz', 'm', 'c', 'degrees'); the other unit decides. Small
misspellings are understood, anything else is refused with the units known. Used by tools.py.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fractions import Fraction

from gemstead.agent.calculator import format_number
from gemstead.errors import InputError


@dataclass(frozen=True)
class Unit:
    """One unit: `factor` and `offset` take a value to the kind's base unit: value * factor + offset."""

    kind: str
    singular: str
    plural: str
    factor: Fraction
    offset: Fraction = Fraction(0)

    def label(self, text: str) -> str:
        """The unit's name as it follows the number `text`."""
        return self.singular if text in ("1", "-1") else self.plural


# One row a unit: factor | singular / plural | other spellings. The first row of a kind is its base.
# Sources: the international foot (0.3048 m) and pound (0.45359237 kg) of 1959, the US gallon of 231
# cubic inches, the imperial gallon of 4.54609 l, the calorie of 4.184 J, the BTU (IT); a year has 365 days.
_TABLE = {
    "length": """
1 | metre/metres | meter meters m mtr mtrs
1/1000 | millimetre/millimetres | millimeter millimeters mm
1/100 | centimetre/centimetres | centimeter centimeters cm cms
1/10 | decimetre/decimetres | decimeter decimeters dm
1000 | kilometre/kilometres | kilometer kilometers km kms k klick klicks
1/1000000 | micrometre/micrometres | micrometer micrometers micron microns um µm
1/1000000000 | nanometre/nanometres | nanometer nanometers nm
0.0254 | inch/inches | in inchs " ″
0.3048 | foot/feet | ft foots ' ′
0.9144 | yard/yards | yd yds
1609.344 | mile/miles | mi
1852 | nautical mile/nautical miles | nautical_mile nmi
1.8288 | fathom/fathoms |
201.168 | furlong/furlongs |
9460730472580800 | light year/light years | lightyear lightyears ly
149597870700 | astronomical unit/astronomical units | au""",
    "mass": """
1 | kilogram/kilograms | kg kgs kilo kilos kilogramme kilogrammes
1/1000 | gram/grams | g gm gms gramme grammes
1/1000000 | milligram/milligrams | mg mgs
1/1000000000 | microgram/micrograms | µg ug mcg
1000 | tonne/tonnes | metric_ton metric_tons t
0.45359237 | pound/pounds | lb lbs pound_weight
0.028349523125 | ounce/ounces | oz ozs
6.35029318 | stone/stone | stones st
907.18474 | US ton/US tons | ton tons short_ton short_tons
1016.0469088 | long ton/long tons | imperial_ton imperial_tons
0.0002 | carat/carats | ct""",
    "volume": """
1 | litre/litres | liter liters l ltr ltrs
1/1000 | millilitre/millilitres | milliliter milliliters ml mls cc
1/100 | centilitre/centilitres | centiliter centiliters cl
1/10 | decilitre/decilitres | deciliter deciliters dl
1000 | cubic metre/cubic metres | cubic_meter cubic_meters m3 m^3 m³
1/1000 | cubic centimetre/cubic centimetres | cubic_centimeter cubic_centimeters cm3 cm^3 cm³
0.016387064 | cubic inch/cubic inches | in3 in^3 in³
28.316846592 | cubic foot/cubic feet | ft3 ft^3 ft³
764.554857984 | cubic yard/cubic yards | yd3 yd^3 yd³
3.785411784 | gallon/gallons | gal gals us_gallon us_gallons
4.54609 | imperial gallon/imperial gallons | uk_gallon uk_gallons
0.946352946 | quart/quarts | qt qts
0.473176473 | pint/pints | pt pts us_pint us_pints
0.56826125 | imperial pint/imperial pints | uk_pint uk_pints
0.2365882365 | cup/cups | c
0.0295735295625 | fluid ounce/fluid ounces | fl_oz floz oz ozs ounce ounces
0.01478676478125 | tablespoon/tablespoons | tbsp tbsps tbs
0.00492892159375 | teaspoon/teaspoons | tsp tsps
158.987294928 | barrel/barrels | bbl""",
    "temperature": """
1 | kelvin/kelvin | k kelvins degrees_kelvin °k
1 + 273.15 | degree Celsius/degrees Celsius | celsius c °c centigrade degrees_c deg_c degrees_centigrade
5/9 + 459.67 | degree Fahrenheit/degrees Fahrenheit | fahrenheit f °f degrees_f deg_f""",
    "area": """
1 | square metre/square metres | square_meter square_meters sqm sq_m m2 m^2 m²
1000000 | square kilometre/square kilometres | square_kilometer square_kilometers sq_km km2 km^2 km²
1/10000 | square centimetre/square centimetres | square_centimeter square_centimeters sq_cm cm2 cm^2 cm²
1/1000000 | square millimetre/square millimetres | square_millimeter square_millimeters mm2 mm^2 mm²
0.00064516 | square inch/square inches | sq_in in2 in^2 in²
0.09290304 | square foot/square feet | sqft sq_ft ft2 ft^2 ft²
0.83612736 | square yard/square yards | sq_yd sq_yds yd2 yd^2 yd²
2589988.110336 | square mile/square miles | sq_mi mi2 mi^2 mi²
4046.8564224 | acre/acres | ac
10000 | hectare/hectares | ha""",
    "speed": """
1 | metre per second/metres per second | meter_per_second meters_per_second m/s mps
5/18 | kilometre per hour/kilometres per hour | kilometer_per_hour kilometers_per_hour km/h kmh kph kmph
0.44704 | mile per hour/miles per hour | mph mi/h
1852/3600 | knot/knots | kn kt kts
0.3048 | foot per second/feet per second | ft/s fps
1000 | kilometre per second/kilometres per second | kilometer_per_second kilometers_per_second km/s""",
    "time": """
1 | second/seconds | s sec secs
1/1000 | millisecond/milliseconds | ms msec
1/1000000 | microsecond/microseconds | us µs
1/1000000000 | nanosecond/nanoseconds | ns
60 | minute/minutes | min mins m
3600 | hour/hours | h hr hrs
86400 | day/days | d
604800 | week/weeks | wk wks
1209600 | fortnight/fortnights |
2628000 | month/months | mo mos
31536000 | year/years | yr yrs y
315360000 | decade/decades |
3153600000 | century/centuries |
31536000000 | millennium/millennia | millenniums""",
    "data": """
1 | byte/bytes | B
1/8 | bit/bits | b
1000 | kilobyte/kilobytes | kB KB
1000000 | megabyte/megabytes | MB meg megs
1000000000 | gigabyte/gigabytes | GB gig gigs
1000000000000 | terabyte/terabytes | TB
1000000000000000 | petabyte/petabytes | PB
1024 | kibibyte/kibibytes | KiB
1048576 | mebibyte/mebibytes | MiB
1073741824 | gibibyte/gibibytes | GiB
1099511627776 | tebibyte/tebibytes | TiB
125 | kilobit/kilobits | kb kbit kbits
125000 | megabit/megabits | Mb mbit mbits
125000000 | gigabit/gigabits | Gb gbit gbits""",
    "energy": """
1 | joule/joules | j
1000 | kilojoule/kilojoules | kj
1000000 | megajoule/megajoules | mj
4.184 | calorie/calories | cal cals
4184 | kilocalorie/kilocalories | kcal kcals
3600 | watt-hour/watt-hours | wh watt_hour watt_hours
3600000 | kilowatt-hour/kilowatt-hours | kwh kilowatt_hour kilowatt_hours
1055.05585262 | BTU/BTU | btus
1.602176634e-19 | electronvolt/electronvolts | ev electron_volt electron_volts""",
    "pressure": """
1 | pascal/pascals | pa
1000 | kilopascal/kilopascals | kpa
100 | hectopascal/hectopascals | hpa
1000000 | megapascal/megapascals | mpa
100000 | bar/bars |
100 | millibar/millibars | mbar mbars
101325 | atmosphere/atmospheres | atm atms
6894.757293168 | psi/psi | pounds_per_square_inch pound_per_square_inch
133.322387415 | millimetre of mercury/millimetres of mercury | mmhg mm_hg millimeters_of_mercury
101325/760 | torr/torr | torrs
3386.389 | inch of mercury/inches of mercury | inhg""",
    "power": """
1 | watt/watts | w
1000 | kilowatt/kilowatts | kw
1000000 | megawatt/megawatts | mw
745.69987158227022 | horsepower/horsepower | hp""",
    "angle": """
1 | degree/degrees | deg degs °
57.295779513082320876798 | radian/radians | rad rads""",
}


def _load() -> dict[str, list[Unit]]:
    """Every spelling -> the units it may mean, from the table."""
    known: dict[str, list[Unit]] = {}
    for kind, rows in _TABLE.items():
        for row in rows.strip().splitlines():
            amount, names, others = (part.strip() for part in row.split("|"))
            factor, _, offset = amount.partition(" + ")
            scale = Fraction(factor)
            singular, _, plural = names.partition("/")
            shift = (
                scale * Fraction(offset or 0)
                if kind == "temperature" and scale != 1
                else Fraction(offset or 0)
            )
            unit = Unit(kind, singular, plural, scale, shift)
            for spelling in (singular, plural, *others.split()):
                entry = known.setdefault(_plain(spelling), [])
                if unit not in entry:
                    entry.append(unit)
    return known


def _plain(spelling: str) -> str:
    return " ".join(spelling.replace("_", " ").replace("-", " ").strip(" .?!,").split())


_EXACT = _load()
_FOLDED: dict[str, list[Unit]] = {}
for _spelling, _units in _EXACT.items():
    _FOLDED.setdefault(_spelling.lower(), []).extend(
        u for u in _units if u not in _FOLDED.get(_spelling.lower(), [])
    )
KINDS = tuple(_TABLE)


def find_units(spelling: str) -> list[Unit]:
    """The units `spelling` may mean, likeliest first; empty when none is near."""
    plain = _plain(spelling)
    if plain in _EXACT:
        return [*_EXACT[plain], *(u for u in _FOLDED[plain.lower()] if u not in _EXACT[plain])]
    folded = plain.lower()
    tries = [
        folded,
        folded.replace("sq ", "square ").replace("cu ", "cubic "),
        folded.replace("squared", "").strip(),
    ]
    if folded.startswith("degrees "):
        tries.append(folded.removeprefix("degrees "))
    if folded.endswith(" squared"):
        tries.insert(0, f"square {folded.removesuffix(' squared')}")
    tries.append(folded.replace(" an hour", " per hour").replace(" a second", " per second"))
    for name in tries:
        if name in _FOLDED:
            return _FOLDED[name]
    near = difflib.get_close_matches(folded, _FOLDED, n=1, cutoff=0.84) if len(folded) > 4 else []
    return _FOLDED[near[0]] if near else []


def shown(value: Fraction) -> str:
    """A converted value: whole numbers whole, others to seven significant digits, as measures go."""
    if value.denominator == 1:
        return format_number(value)
    exponent = len(str(abs(int(value)))) if abs(value) >= 1 else 0
    if exponent not in range(1, 16):
        return format_number(Fraction(f"{float(value):.7g}"))
    places = max(0, 7 - exponent)
    return format_number(Fraction(round(value * 10**places), 10**places))


def convert(value: Fraction, from_unit: str, to_unit: str) -> str:
    """`value` converted, as text with both units named: '5 miles = 8.04672 kilometres'.

    Raises InputError for an unknown unit or for units of different kinds.
    """
    sources, targets = find_units(from_unit), find_units(to_unit)
    for spelling, found in ((from_unit, sources), (to_unit, targets)):
        if not found:
            raise InputError(f"unknown unit {spelling!r}; known are units of {', '.join(KINDS)}")
    pair = next(((a, b) for a in sources for b in targets if a.kind == b.kind), None)
    if pair is None:
        a, b = sources[0], targets[0]
        raise InputError(f"{a.plural} measure {a.kind} but {b.plural} measure {b.kind}")
    source, target = pair
    result = (value * source.factor + source.offset - target.offset) / target.factor
    before, after = format_number(value), shown(result)
    return f"{before} {source.label(before)} = {after} {target.label(after)}"
