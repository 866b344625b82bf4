"""Adding organs to a model: projects, annotated cases, trainings and their reports, without Qt."""
