"""The alignment tax: what each stage of training cost in capability, honest answers, length, diversity and calibration."""
